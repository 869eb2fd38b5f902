// Columns of JSON values cast to another type, one target each. A value whose cast is beyond doubt is taken, every
// other one is left: Python casts it, or says why it cannot. See `airberg/columns/casting.py`.

#pragma once

#include <cmath>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "json_rewriting.hpp"
#include "plain_values.hpp"
#include "texts.hpp"

namespace airberg {

enum class Target { boolean, integer, float32, float64, decimal, date, time, local, instant, string, json, parsed, bytes };

// What is cast to. `local` has no zone; `parsed` is JSON in a text.
struct Wanted {
    Target target;
    int bits = 0;
    int precision = 0;
    int scale = 0;
};

struct Decimal128 {
    uint64_t low;
    int64_t high;
};

class Casts {
  public:
    Casts(Declared declared, Wanted wanted) : reader_(declared), wanted_(wanted) {
        limit_ = 1;
        for (int i = 0; i < wanted.precision; ++i) limit_ *= 10;
    }

    std::vector<uint8_t> valid, left;  // one byte for each value
    int64_t nulls = 0, lefts = 0;
    std::vector<uint8_t> flags;
    std::vector<int32_t> halves;  // integers of up to 32 bits, days
    std::vector<int64_t> numbers;
    std::vector<float> singles;
    std::vector<double> doubles;
    std::vector<Decimal128> decimals;
    std::vector<int32_t> ends;
    std::vector<char> chars;

    void cast(const Texts& texts) {
        make_room(texts.rows);
        for (size_t row = 0; row < texts.rows; ++row) {
            if (texts.valid(row)) {
                const Value value = reader_.read(texts.at(row));
                valid[row] = take(value, row);
                left[row] = !valid[row];
                lefts += left[row];
            }
            nulls += !valid[row];
            if (!ends.empty()) ends[row + 1] = end();
        }
    }

  private:
    using Kind = Value::Kind;
    __extension__ typedef unsigned __int128 Wide;

    ValueReader reader_;
    Wanted wanted_;
    Wide limit_;
    JsonRewriter rewriter_;

    void make_room(size_t rows) {
        valid.assign(rows, 0);
        left.assign(rows, 0);
        switch (wanted_.target) {
            case Target::boolean: flags.assign(rows, 0); break;
            case Target::integer:
                if (wanted_.bits == 64) {
                    numbers.assign(rows, 0);
                } else {
                    halves.assign(rows, 0);
                }
                break;
            case Target::date: halves.assign(rows, 0); break;
            case Target::time: case Target::local: case Target::instant: numbers.assign(rows, 0); break;
            case Target::float32: singles.assign(rows, 0); break;
            case Target::float64: doubles.assign(rows, 0); break;
            case Target::decimal: decimals.assign(rows, {0, 0}); break;
            case Target::string: case Target::json: case Target::parsed: case Target::bytes:
                ends.assign(rows + 1, 0);
                break;
        }
    }

    int32_t end() const {
        if (chars.size() > INT32_MAX) throw std::length_error("more bytes than the offsets of the array reach");
        return static_cast<int32_t>(chars.size());
    }

    bool take(const Value& value, size_t row) {
        int64_t number;
        double real;
        if (value.kind == Kind::other) return false;
        switch (wanted_.target) {
            case Target::boolean: return boolean(value, flags[row]);
            case Target::integer:
                if (!integer(value, number)) return false;
                if (wanted_.bits == 64) {
                    numbers[row] = number;
                } else {
                    halves[row] = static_cast<int32_t>(number);
                }
                return true;
            case Target::float32:
                if (!floating(value, real)) return false;
                singles[row] = static_cast<float>(real);
                return std::isfinite(singles[row]);
            case Target::float64: return floating(value, doubles[row]);
            case Target::decimal: return decimal(value, decimals[row]);
            case Target::date: return date(value, halves[row]);
            case Target::time: return time(value, numbers[row]);
            case Target::local: case Target::instant: return moment(value, numbers[row]);
            case Target::string: case Target::json: case Target::parsed: return written(value);
            case Target::bytes: return value.kind == Kind::text && written(value);
        }
        return false;
    }

    // ---- numbers -------------------------------------------------------------------------------------------

    static int64_t floor_div(int64_t number, int64_t unit) {
        return number / unit - (number % unit < 0 ? 1 : 0);
    }

    bool integer(const Value& value, int64_t& number) const {
        Digits digits = value.digits;
        switch (value.kind) {
            case Kind::boolean: number = value.yes; break;
            case Kind::micros: number = floor_div(value.count, kSecond); break;
            case Kind::text:
                if (!digits_from(trim(value.text, true), digits)) return false;
                if (!whole(digits, number)) return false;
                break;
            case Kind::number:
                if (!value.plain || !whole(digits, number)) return false;
                break;
            default: return false;
        }
        const int64_t high = INT64_MAX >> (64 - wanted_.bits);
        return number <= high && number >= -high - 1;
    }

    // Cut towards zero. The least number of 64 bits is left, as it has no positive one.
    static bool whole(const Digits& digits, int64_t& number) {
        const std::string_view found = digits.significant();
        number = 0;
        if (!found.empty() && !as_int64(found, number)) return false;
        if (digits.negative) number = -number;
        return true;
    }

    static bool floating(const Value& value, double& real) {
        std::string_view text = value.text;
        switch (value.kind) {
            case Kind::boolean: real = value.yes; return true;
            case Kind::micros:
                real = static_cast<double>(value.count) / static_cast<double>(kSecond);
                return std::abs(value.count) <= int64_t{1} << 53;  // both are exact, so that the quotient is nearest
            case Kind::text:
                text = trim(text, false);
                return numeric(text) && double_from(text, real);
            case Kind::number:
                if (!value.quoted && text == "-0") text = "0";  // an integer has no negative zero
                if (text.front() == '+') text.remove_prefix(1);
                return double_from(text, real);
            default: return false;
        }
    }

    bool decimal(const Value& value, Decimal128& made) const {
        Digits digits = value.digits;
        char text[32];
        switch (value.kind) {
            case Kind::boolean: digits.whole = value.yes ? "1" : "0"; break;
            case Kind::micros: digits = seconds(value.count, text); break;
            case Kind::text:
                if (!digits_from(trim(value.text, false), digits)) return false;
                break;
            case Kind::number:
                if (!value.plain) return false;
                break;
            default: return false;
        }
        return rounded(digits, made);
    }

    static Digits seconds(int64_t micros, char (&text)[32]) {
        Digits digits;
        digits.negative = micros < 0;
        uint64_t rest = digits.negative ? 0 - static_cast<uint64_t>(micros) : static_cast<uint64_t>(micros);
        for (int at = 31; at >= 0; --at, rest /= 10) text[at] = static_cast<char>('0' + rest % 10);
        digits.whole = {text, 26};
        digits.fraction = {text + 26, 6};
        return digits;
    }

    // Half up, away from zero: the first digit that is cut off decides.
    bool rounded(const Digits& digits, Decimal128& made) const {
        const size_t scale = static_cast<size_t>(wanted_.scale);
        const std::string_view whole = digits.significant();
        if (whole.size() + scale > static_cast<size_t>(wanted_.precision)) return false;
        Wide number = 0;
        for (const char c : whole) number = number * 10 + static_cast<unsigned>(c - '0');
        for (size_t at = 0; at < scale; ++at) {
            number = number * 10 + (at < digits.fraction.size() ? static_cast<unsigned>(digits.fraction[at] - '0') : 0);
        }
        if (digits.fraction.size() > scale && digits.fraction[scale] >= '5') ++number;
        if (number >= limit_) return false;
        if (digits.negative) number = 0 - number;
        made = {static_cast<uint64_t>(number), static_cast<int64_t>(static_cast<uint64_t>(number >> 64))};
        return true;
    }

    // ---- booleans ------------------------------------------------------------------------------------------

    static bool boolean(const Value& value, uint8_t& yes) {
        switch (value.kind) {
            case Kind::boolean: yes = value.yes; return true;
            case Kind::number: yes = !value.digits.zero(); return value.plain;
            case Kind::text: return word(trim(value.text, true), yes);
            default: return false;
        }
    }

    static bool word(std::string_view text, uint8_t& yes) {
        char small[8];
        if (text.size() > 5) return false;
        for (size_t i = 0; i < text.size(); ++i) {
            small[i] = text[i] >= 'A' && text[i] <= 'Z' ? static_cast<char>(text[i] + 32) : text[i];
        }
        const std::string_view found(small, text.size());
        for (const std::string_view one : {"true", "t", "yes", "y", "1"}) {
            if (found == one) return yes = 1, true;
        }
        for (const std::string_view one : {"false", "f", "no", "n", "0"}) {
            if (found == one) return yes = 0, true;
        }
        return false;
    }

    // ---- dates and times -----------------------------------------------------------------------------------

    static bool date(const Value& value, int32_t& day) {
        if (value.kind == Kind::day) return day = static_cast<int32_t>(value.count), true;
        if (value.kind == Kind::micros) return day = static_cast<int32_t>(floor_div(value.count, kDay)), true;
        if (value.kind != Kind::text) return false;
        const std::string_view text = trim(value.text, true);
        if (!parse_date(text.substr(0, 10), day)) return false;
        if (text.size() == 10) return true;
        const bool before_christ = text.size() >= 3 && text.substr(text.size() - 3) == " BC";
        return (text[10] == 'T' || text[10] == ' ') && !before_christ;  // anything may follow
    }

    static bool time(const Value& value, int64_t& micros) {
        if (value.kind == Kind::clock) return micros = value.count, true;
        if (value.kind == Kind::micros) return micros = value.count - floor_div(value.count, kDay) * kDay, true;
        return value.kind == Kind::text && parse_clock(trim(value.text, true), micros);
    }

    bool moment(const Value& value, int64_t& micros) const {
        constexpr int64_t kMostOffset = 18 * 60 * kMinute;
        int64_t clock, offset;
        switch (value.kind) {
            case Kind::micros: micros = value.count; return true;
            case Kind::day: micros = value.count * kDay; return true;
            case Kind::text:
                if (!parse_written(trim(value.text, true), clock, offset)) return false;
                micros = wanted_.target == Target::local ? clock : clock - offset;
                return std::abs(offset) <= kMostOffset;
            case Kind::number: return value.plain && seconds_since(value.digits, micros);
            default: return false;
        }
    }

    // Cut towards zero; of numbers with more digits Python's decimals keep 28.
    static bool seconds_since(const Digits& digits, int64_t& micros) {
        const std::string_view found = digits.significant();
        if (found.size() > 13 || digits.fraction.size() > 15) return false;
        micros = 0;
        for (const char c : found) micros = micros * 10 + (c - '0');
        if (micros >= kMostDays * (kDay / kSecond)) return false;
        for (size_t at = 0; at < 6; ++at) {
            micros = micros * 10 + (at < digits.fraction.size() ? digits.fraction[at] - '0' : 0);
        }
        if (digits.negative) micros = -micros;
        return true;
    }

    // ---- texts ---------------------------------------------------------------------------------------------

    bool written(const Value& value) {
        constexpr size_t kLongest = 38;  // numbers of so many characters have no exponent in a text
        std::string_view made = value.text;
        switch (value.kind) {
            case Kind::text:
                if (wanted_.target == Target::parsed && !rewriter_.is_json(value.text)) return false;
                if (wanted_.target == Target::json) return append_quoted(chars, value.text), true;
                break;
            case Kind::number:
                if (wanted_.target != Target::string && !keeps_its_form(value.text)) return false;
                if (!value.plain || value.text.size() > kLongest || value.text == "-0") return false;
                break;
            case Kind::nested:
                if (!rewriter_.compact(value.text, made)) return false;
                break;
            case Kind::boolean: break;
            default: return false;
        }
        chars.insert(chars.end(), made.begin(), made.end());
        return true;
    }
};

}  // namespace airberg
