// The text of numbers, booleans, days and moments that encryption works on: what `canonical_text` in
// `airberg/keys/cipher.py` writes, byte for byte, over whole arrays.

#pragma once

#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string_view>

#include "moments.hpp"

namespace airberg {

// In the order of their names in `cipher.cpp`. `value` is one of Arrow's: little-endian, of the width below.
enum class Form { boolean, int32, int64, float64, date, time, timestamp, timestamptz, decimal };

constexpr size_t kFormWidths[] = {0, 4, 8, 8, 4, 8, 8, 8, 16};
constexpr size_t kFormTexts[] = {5, 11, 20, 25, 14, 18, 34, 35, 42};  // the longest text of each

inline char* put_digits(char* out, uint64_t value, int count) {
    for (int i = count; i-- > 0; value /= 10) out[i] = static_cast<char>('0' + value % 10);
    return out + count;
}

template <class Integer>
char* put_integer(char* out, Integer value) {
    char text[24];
    const size_t size = static_cast<size_t>(std::to_chars(text, text + sizeof text, value).ptr - text);
    std::memcpy(out, text, size);
    return out + size;
}

// The shortest digits that read back as the same number, laid out as Python's `repr` does it: with an exponent
// when the point would be more than 16 digits behind the first one or more than 4 before it.
inline char* put_double(char* out, double value) {
    const auto put = [&out](std::string_view text) {
        std::memcpy(out, text.data(), text.size());
        return out += text.size();
    };
    if (std::isnan(value)) return put("nan");
    if (std::isinf(value)) return put(value < 0 ? "-inf" : "inf");
    char text[32];
    const char* const end = std::to_chars(text, text + sizeof text, value, std::chars_format::scientific).ptr;
    const char* const mark = static_cast<const char*>(std::memchr(text, 'e', static_cast<size_t>(end - text)));
    int exponent = 0;
    std::from_chars(mark[1] == '+' ? mark + 2 : mark + 1, end, exponent);
    if (exponent < -4 || exponent >= 16) return put({text, static_cast<size_t>(end - text)});
    const char* at = text;
    if (*at == '-') *out++ = *at++;
    char digits[20];
    int count = 0;
    for (; at < mark; ++at) {
        if (*at != '.') digits[count++] = *at;
    }
    if (exponent < 0) {
        put(std::string_view("0.0000").substr(0, static_cast<size_t>(1 - exponent)));
        return put({digits, static_cast<size_t>(count)});
    }
    const int whole = exponent + 1;
    for (int i = 0; i < whole; ++i) *out++ = i < count ? digits[i] : '0';
    *out++ = '.';
    if (count <= whole) return put("0");
    return put({digits + whole, static_cast<size_t>(count - whole)});
}

// A day of the proleptic Gregorian calendar, the other way round than `days_from_civil`.
inline char* put_date(char* out, int64_t days) {
    const int64_t shifted = days + 719'468;
    const int64_t era = (shifted >= 0 ? shifted : shifted - 146'096) / 146'097;
    const int64_t day_of_era = shifted - era * 146'097;
    const int64_t year_of_era = (day_of_era - day_of_era / 1'460 + day_of_era / 36'524 - day_of_era / 146'096) / 365;
    const int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    const int64_t month_from_march = (5 * day_of_year + 2) / 153;
    const int64_t day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    const int64_t month = month_from_march < 10 ? month_from_march + 3 : month_from_march - 9;
    const int64_t year = year_of_era + era * 400 + (month <= 2 ? 1 : 0);
    if (year < 0) *out++ = '-';
    const uint64_t far = static_cast<uint64_t>(year < 0 ? -year : year);
    out = far < 10'000 ? put_digits(out, far, 4) : put_integer(out, far);
    *out++ = '-';
    out = put_digits(out, static_cast<uint64_t>(month), 2);
    *out++ = '-';
    return put_digits(out, static_cast<uint64_t>(day), 2);
}

inline char* put_time(char* out, int64_t micros) {
    if (micros < 0 || micros >= kDay) throw std::invalid_argument("no time of a day");
    const uint64_t seconds = static_cast<uint64_t>(micros / kSecond);
    out = put_digits(out, seconds / 3600, 2);
    *out++ = ':';
    out = put_digits(out, seconds / 60 % 60, 2);
    *out++ = ':';
    out = put_digits(out, seconds % 60, 2);
    *out++ = '.';
    return put_digits(out, static_cast<uint64_t>(micros % kSecond), 6);
}

inline char* put_timestamp(char* out, int64_t micros) {
    int64_t days = micros / kDay, clock = micros % kDay;
    if (clock < 0) {
        clock += kDay;
        --days;
    }
    out = put_date(out, days);
    *out++ = 'T';
    return put_time(out, clock);
}

// All digits of the scale. There is no negative zero.
inline char* put_decimal(char* out, const uint8_t* value, int scale) {
    unsigned __int128 left;
    std::memcpy(&left, value, sizeof left);
    if (left >> 127 != 0) {
        *out++ = '-';
        left = ~left + 1;
    }
    char reversed[40];
    int count = 0;
    for (; left != 0 || count <= scale; left /= 10) reversed[count++] = static_cast<char>('0' + static_cast<int>(left % 10));
    while (count > 0) {
        *out++ = reversed[--count];
        if (count == scale && scale > 0) *out++ = '.';
    }
    return out;
}

template <class Value>
Value value_at(const uint8_t* values, size_t index) {
    Value value;
    std::memcpy(&value, values + sizeof value * index, sizeof value);
    return value;
}

// Writes the text of one value; returns where it ends. At most `kFormTexts` bytes.
inline char* put_text(char* out, Form form, const uint8_t* values, size_t index, int scale) {
    switch (form) {
        case Form::boolean: {
            const bool yes = (values[index >> 3] >> (index & 7) & 1) != 0;
            std::memcpy(out, yes ? "true" : "false", yes ? 4 : 5);
            return out + (yes ? 4 : 5);
        }
        case Form::int32: return put_integer(out, value_at<int32_t>(values, index));
        case Form::int64: return put_integer(out, value_at<int64_t>(values, index));
        case Form::float64: return put_double(out, value_at<double>(values, index));
        case Form::date: return put_date(out, value_at<int32_t>(values, index));
        case Form::time: return put_time(out, value_at<int64_t>(values, index));
        case Form::timestamp: return put_timestamp(out, value_at<int64_t>(values, index));
        case Form::timestamptz:
            out = put_timestamp(out, value_at<int64_t>(values, index));
            *out++ = 'Z';
            return out;
        case Form::decimal: return put_decimal(out, values + 16 * index, scale);
    }
    return out;
}

}  // namespace airberg
