// JSON values as casts see them: texts, numbers, booleans, moments, as far as they are written in a plain form.
//
// What is not plain is `other`, and left to Python. See `airberg/columns/casting.py`, which says what each means.

#pragma once

#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "json.hpp"
#include "moments.hpp"

namespace airberg {

constexpr int64_t kMinute = 60 * kSecond;

// ---- texts -------------------------------------------------------------------------------------------------

// Python's `SPACE`: ASCII space and control characters; with `del`, `trimmed`.
inline std::string_view trim(std::string_view text, bool del) {
    const auto space = [del](char c) { return static_cast<unsigned char>(c) <= 32 || (del && c == 0x7F); };
    while (!text.empty() && space(text.front())) text.remove_prefix(1);
    while (!text.empty() && space(text.back())) text.remove_suffix(1);
    return text;
}

// The text of a JSON string; `false` for what is no text.
inline bool text_of(std::string_view json, std::string& unescaped, std::string_view& text) {
    if (json.size() < 2 || json.back() != '"') return false;
    text = json.substr(1, json.size() - 2);
    if (std::memchr(text.data(), '\\', text.size()) == nullptr) return true;
    unescaped.clear();
    if (!append_unescaped(unescaped, text)) return false;
    text = unescaped;
    return true;
}

// ---- numbers -----------------------------------------------------------------------------------------------

// A number without an exponent.
struct Digits {
    bool negative = false;
    bool pointed = false;
    std::string_view whole, fraction;  // together at least one digit

    bool zero() const {
        return whole.find_first_not_of('0') == std::string_view::npos &&
               fraction.find_first_not_of('0') == std::string_view::npos;
    }
    std::string_view significant() const {
        const size_t first = whole.find_first_not_of('0');
        return first == std::string_view::npos ? std::string_view() : whole.substr(first);
    }
};

inline size_t digits_at(std::string_view text, size_t from) {
    size_t at = from;
    while (at < text.size() && is_digit(text[at])) ++at;
    return at - from;
}

inline bool digits_from(std::string_view text, Digits& number) {
    size_t at = !text.empty() && (text[0] == '-' || text[0] == '+') ? 1 : 0;
    number.negative = at == 1 && text[0] == '-';
    number.whole = text.substr(at, digits_at(text, at));
    at += number.whole.size();
    number.pointed = at < text.size() && text[at] == '.';
    number.fraction = number.pointed ? text.substr(at + 1, digits_at(text, at + 1)) : std::string_view();
    if (number.pointed) at += 1 + number.fraction.size();
    return at == text.size() && number.whole.size() + number.fraction.size() > 0;
}

// Python's `_NUMBER`; what is behind a plus, since `from_chars` takes none.
inline bool numeric(std::string_view& text) {
    const size_t mark = text.find_first_of("eE");
    Digits mantissa;
    if (!digits_from(text.substr(0, mark), mantissa)) return false;
    if (mark != std::string_view::npos) {
        const bool sign = mark + 1 < text.size() && (text[mark + 1] == '-' || text[mark + 1] == '+');
        const size_t from = mark + 1 + (sign ? 1 : 0), size = text.size() - from;
        if (size < 1 || size > 9 || digits_at(text, from) != size) return false;
    }
    if (text[0] == '+') text.remove_prefix(1);
    return true;
}

// `false` beyond the range, also where Python would give zero.
inline bool double_from(std::string_view text, double& value) {
    const char* const end = text.data() + text.size();
    const auto [stop, fault] = std::from_chars(text.data(), end, value);
    return fault == std::errc() && stop == end && std::isfinite(value);
}

// ---- dates and times ---------------------------------------------------------------------------------------

// `HH:MM`, `HH:MM:SS`, and up to six digits of a second; microseconds.
inline bool parse_clock(std::string_view text, int64_t& micros) {
    if (text.size() < 5 || text[2] != ':') return false;
    const int hour = digits(text.data(), 2), minute = digits(text.data() + 3, 2);
    if (hour < 0 || hour > 23 || minute < 0 || minute > 59) return false;
    micros = (hour * 60 + minute) * kMinute;
    if (text.size() == 5) return true;
    if (text.size() < 8 || text[5] != ':') return false;
    const int second = digits(text.data() + 6, 2);
    if (second < 0 || second > 59) return false;
    micros += second * kSecond;
    if (text.size() == 8) return true;
    if (text[8] != '.' || text.size() == 9 || text.size() > 15) return false;
    int64_t unit = kSecond;
    for (const char c : text.substr(9)) {
        if (!is_digit(c)) return false;
        micros += (unit /= 10) * (c - '0');
    }
    return true;
}

// ---- values ------------------------------------------------------------------------------------------------

// How the texts of a column are read before they are cast, by its declared type.
enum class Declared { text, number, date, time, moment };

struct Value {
    enum class Kind { text, number, boolean, day, clock, micros, nested, other };

    Kind kind = Kind::other;
    bool quoted = false;     // a JSON string
    bool plain = false;      // a number that has `digits`
    bool yes = false;        // boolean
    int64_t count = 0;       // days, microseconds
    std::string_view text;   // of a text or number; else the JSON text
    Digits digits;
};

class ValueReader {
  public:
    explicit ValueReader(Declared declared) : declared_(declared) {}

    // One JSON value as the reader of records gives it. The result is good until the next call.
    Value read(std::string_view json) {
        Value value;
        value.text = json;
        if (json.empty()) return value;
        switch (json[0]) {
            case '"':
                value.quoted = true;
                if (text_of(json, unescaped_, value.text)) read_text(value);
                break;
            case '{': case '[': value.kind = Value::Kind::nested; break;
            case 't': case 'f':
                value.yes = json == "true";
                if (value.yes || json == "false") value.kind = Value::Kind::boolean;
                break;
            default:
                if (json[0] != '-' && !is_digit(json[0])) break;
                value.kind = Value::Kind::number;
                value.plain = digits_from(json, value.digits);
        }
        return value;
    }

  private:
    Declared declared_;
    std::string unescaped_;

    // A text that is not what was declared means what it means as a text, which Python finds out.
    void read_text(Value& value) const {
        int32_t day;
        switch (declared_) {
            case Declared::text: value.kind = Value::Kind::text; break;
            case Declared::number:
                value.plain = digits_from(value.text, value.digits);
                value.kind = value.plain ? Value::Kind::number : Value::Kind::text;
                break;
            case Declared::date:
                if (!parse_date(value.text, day)) break;
                value.count = day;
                value.kind = Value::Kind::day;
                break;
            case Declared::time:
                if (parse_clock(value.text, value.count)) value.kind = Value::Kind::clock;
                break;
            case Declared::moment:
                if (parse_timestamp(value.text, value.count)) value.kind = Value::Kind::micros;
                break;
        }
    }
};

}  // namespace airberg
