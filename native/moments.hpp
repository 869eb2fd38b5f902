// Dates and timestamps in the forms that sources write most often; every other form is left to Python.

#pragma once

#include <cstdint>
#include <string_view>

namespace airberg {

constexpr int64_t kSecond = 1'000'000;  // microseconds
constexpr int64_t kDay = 86'400 * kSecond;
constexpr int64_t kMostDays = 106'751'991;  // the whole days of 64 bits
constexpr int32_t kFirstDay = -719'162;  // 0001-01-01
constexpr int32_t kLastDay = 2'932'896;  // 9999-12-31

// `count` digits at `p`, or -1.
inline int digits(const char* p, int count) {
    int value = 0;
    for (int i = 0; i < count; ++i) {
        const int digit = p[i] - '0';
        if (digit < 0 || digit > 9) return -1;
        value = value * 10 + digit;
    }
    return value;
}

// Days since 1970-01-01 of a day of the proleptic Gregorian calendar. Years are counted from March, so that
// the leap day is the last of its year; an era is 400 years.
inline int32_t days_from_civil(int year, int month, int day) {
    const int y = month <= 2 ? year - 1 : year;
    const int era = (y >= 0 ? y : y - 399) / 400;
    const int year_of_era = y - era * 400;
    const int month_from_march = month > 2 ? month - 3 : month + 9;
    const int day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    const int day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    return era * 146'097 + day_of_era - 719'468;
}

inline int days_in_month(int year, int month) {
    constexpr int kDays[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    const bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    return month == 2 && leap ? 29 : kDays[month - 1];
}

// `YYYY-MM-DD`, exactly.
inline bool parse_date(std::string_view text, int32_t& days) {
    if (text.size() != 10 || text[4] != '-' || text[7] != '-') return false;
    const int year = digits(text.data(), 4);
    const int month = digits(text.data() + 5, 2);
    const int day = digits(text.data() + 8, 2);
    if (year < 1 || month < 1 || month > 12 || day < 1 || day > days_in_month(year, month)) return false;
    days = days_from_civil(year, month, day);
    return true;
}

// `±HH:MM`, `±HHMM` or `±HH`, as microseconds to the east of UTC.
inline bool parse_offset(std::string_view text, int64_t& offset) {
    const size_t size = text.size();
    if (size != 3 && size != 5 && size != 6) return false;
    if (text[0] != '+' && text[0] != '-') return false;
    if (size == 6 && text[3] != ':') return false;
    const int hours = digits(text.data() + 1, 2);
    const int minutes = size == 3 ? 0 : digits(text.data() + size - 2, 2);
    if (hours < 0 || hours > 23 || minutes < 0 || minutes > 59) return false;
    offset = (hours * 60 + minutes) * 60 * kSecond;
    if (text[0] == '-') offset = -offset;
    return true;
}

// A date, or `YYYY-MM-DDTHH:MM:SS` with up to nine digits of a second and an offset: the clock as it is written, as
// microseconds since 1970, digits beyond microseconds cut off, and the offset, 0 where there is none.
inline bool parse_written(std::string_view text, int64_t& clock, int64_t& offset) {
    int32_t days;
    offset = 0;
    if (!parse_date(text.substr(0, 10), days)) return false;
    if (text.size() == 10) {
        clock = days * kDay;
        return true;
    }
    if (text.size() < 19 || (text[10] != 'T' && text[10] != ' ') || text[13] != ':' || text[16] != ':') {
        return false;
    }
    const int hour = digits(text.data() + 11, 2);
    const int minute = digits(text.data() + 14, 2);
    const int second = digits(text.data() + 17, 2);
    if (hour < 0 || hour > 23 || minute < 0 || minute > 59 || second < 0 || second > 59) return false;
    size_t at = 19;
    int64_t fraction = 0;
    if (at < text.size() && text[at] == '.') {
        const size_t first = ++at;
        int64_t unit = kSecond;
        while (at < text.size() && text[at] >= '0' && text[at] <= '9') {
            unit /= 10;
            fraction += unit * (text[at] - '0');
            ++at;
        }
        if (at == first || at - first > 9) return false;
    }
    const std::string_view zone = text.substr(at);
    if (!zone.empty() && zone != "Z" && !parse_offset(zone, offset)) return false;
    clock = days * kDay + ((hour * 60 + minute) * 60 + second) * kSecond + fraction;
    return true;
}

// The same in UTC. Without an offset it is taken for UTC.
inline bool parse_timestamp(std::string_view text, int64_t& micros) {
    int64_t clock, offset;
    if (!parse_written(text, clock, offset)) return false;
    micros = clock - offset;
    return micros >= kFirstDay * kDay && micros < (kLastDay + int64_t{1}) * kDay;
}

}  // namespace airberg
