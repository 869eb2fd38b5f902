// Columns that grow by one value at a time, laid out as Arrow wants them.
//
// A column takes the values that are plainly of its type. Any other value becomes null here and is kept as JSON
// text beside its place ("deferred"): Python converts it or records why it cannot, and puts the result in place.

#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "json.hpp"
#include "moments.hpp"

namespace airberg {

enum class Kind { boolean, int64, float64, string, date, timestamp, json, object, list };

// Values that wait for Python.
struct Deferred {
    std::vector<int64_t> places;
    std::vector<int64_t> rows;
    std::vector<int64_t> ends{0};  // of the texts, behind a leading 0
    std::vector<char> texts;

    void add(int64_t place, int64_t row, std::string_view text) {
        places.push_back(place);
        rows.push_back(row);
        texts.insert(texts.end(), text.begin(), text.end());
        ends.push_back(static_cast<int64_t>(texts.size()));
    }

    void truncate(int64_t length) {
        while (!places.empty() && places.back() >= length) {
            places.pop_back();
            rows.pop_back();
            ends.pop_back();
        }
        texts.resize(static_cast<size_t>(ends.back()));
    }

    void clear() {
        places.clear();
        rows.clear();
        ends.assign(1, 0);
        texts.clear();
    }
};

class Column {
  public:
    Column() = default;
    Column(Column&&) = default;
    Column& operator=(Column&&) = default;
    Column(const Column&) = delete;  // the index points into the names
    Column& operator=(const Column&) = delete;

    Kind kind = Kind::json;
    std::vector<uint8_t> valid;    // one byte for each value
    std::vector<uint8_t> flags;    // boolean
    std::vector<int64_t> numbers;  // int64, timestamp
    std::vector<double> doubles;   // float64
    std::vector<int32_t> days;     // date
    std::vector<int32_t> ends{0};  // string, json, list: offsets, with the leading 0
    std::vector<char> chars;       // string, json
    std::vector<Column> children;  // members of an object, the element of a list
    Deferred deferred;

    int64_t size() const { return static_cast<int64_t>(valid.size()); }

    // The members of an object, by name; called once, when the column is made.
    void name_members(std::vector<std::string> names) {
        names_ = std::move(names);
        stamps_.assign(names_.size(), 0);
        for (size_t i = 0; i < names_.size(); ++i) index_.emplace(names_[i], i);
    }

    // Reads one value. `false`: the whole line is to be read by Python; what was added must be taken back.
    bool append(Cursor& c, int64_t row) {
        if (*c.at == 'n') {
            if (!take_literal(c, "null")) return false;
            append_null();
            return true;
        }
        switch (kind) {
            case Kind::string: return *c.at == '"' ? append_string(c, row) : defer(c, row);
            case Kind::int64: return append_int64(c, row);
            case Kind::float64: return append_float64(c, row);
            case Kind::boolean: return append_boolean(c, row);
            case Kind::date: case Kind::timestamp: return *c.at == '"' ? append_moment(c, row) : defer(c, row);
            case Kind::json: return append_json(c, row);
            case Kind::object: return *c.at == '{' ? append_object(c, row) : defer(c, row);
            case Kind::list: return *c.at == '[' ? append_list(c, row) : defer(c, row);
        }
        return false;
    }

    void append_null() {
        valid.push_back(0);
        switch (kind) {
            case Kind::boolean: flags.push_back(0); break;
            case Kind::int64: case Kind::timestamp: numbers.push_back(0); break;
            case Kind::float64: doubles.push_back(0); break;
            case Kind::date: days.push_back(0); break;
            case Kind::string: case Kind::json: case Kind::list: ends.push_back(ends.back()); break;
            case Kind::object:
                for (Column& child : children) child.append_null();
                break;
        }
    }

    // Members of an object, in any order. Stands behind the opening brace.
    bool append_members(Cursor& c, int64_t row) {
        const uint64_t stamp = ++stamp_;
        size_t expected = 0, found = 0;
        skip_space(c);
        if (!take(c, '}')) {
            Text key;
            for (;;) {
                if (!scan_string(c, key)) return false;
                skip_space(c);
                if (!take(c, ':')) return false;
                skip_space(c);
                size_t member;
                if (!find_member(key, expected, member)) return false;
                if (member == names_.size()) {
                    if (!skip_unwanted(c)) return false;
                } else {
                    if (stamps_[member] == stamp) return false;  // twice: the last one counts, which Python does
                    stamps_[member] = stamp;
                    if (!children[member].append(c, row)) return false;
                    expected = member + 1;
                    ++found;
                }
                skip_space(c);
                if (take(c, '}')) break;
                if (!take(c, ',')) return false;
                skip_space(c);
            }
        }
        if (found < names_.size()) {
            for (size_t i = 0; i < names_.size(); ++i) {
                if (stamps_[i] != stamp) children[i].append_null();
            }
        }
        return true;
    }

    // Takes back everything behind the first `length` values.
    void truncate(int64_t length) {
        const size_t n = static_cast<size_t>(length);
        if (valid.size() > n) valid.resize(n);
        deferred.truncate(length);
        switch (kind) {
            case Kind::boolean: shorten(flags, n); break;
            case Kind::int64: case Kind::timestamp: shorten(numbers, n); break;
            case Kind::float64: shorten(doubles, n); break;
            case Kind::date: shorten(days, n); break;
            case Kind::string: case Kind::json:
                shorten(ends, n + 1);
                shorten(chars, static_cast<size_t>(ends.back()));
                break;
            case Kind::list:
                shorten(ends, n + 1);
                children[0].truncate(ends.back());
                break;
            case Kind::object:
                for (Column& child : children) child.truncate(length);
                break;
        }
    }

    void clear() {
        truncate(0);
        release_large(chars);
        release_large(deferred.texts);
        for (Column& child : children) child.clear();
    }

  private:
    std::vector<std::string> names_;
    std::unordered_map<std::string_view, size_t> index_;
    std::vector<uint64_t> stamps_;
    uint64_t stamp_ = 0;
    std::string key_;

    template <class Values>
    static void shorten(Values& values, size_t n) {
        if (values.size() > n) values.resize(n);
    }

    static void release_large(std::vector<char>& bytes) {
        if (bytes.capacity() > (size_t{16} << 20)) std::vector<char>().swap(bytes);
    }

    // The member of that name, `names_.size()` when there is none. Most records have the order of the schema.
    bool find_member(const Text& key, size_t expected, size_t& member) {
        std::string_view name = key.raw;
        if (key.escaped) {
            key_.clear();
            if (!append_unescaped(key_, key.raw)) return false;
            name = key_;
        }
        if (expected < names_.size() && names_[expected] == name) {
            member = expected;
            return true;
        }
        const auto found = index_.find(name);
        member = found == index_.end() ? names_.size() : found->second;
        return true;
    }

    bool defer(Cursor& c, int64_t row) {
        const char* const begin = c.at;
        if (!skip_value(c, c.ours ? Check::nothing : Check::everything)) return false;
        return defer_text(begin, c, row);
    }

    bool defer_text(const char* begin, const Cursor& c, int64_t row) {
        deferred.add(size(), row, {begin, static_cast<size_t>(c.at - begin)});
        append_null();
        return true;
    }

    bool append_string(Cursor& c, int64_t row) {
        const char* const begin = c.at;
        Text text;
        if (!scan_string(c, text)) return false;
        if (!text.ascii && !is_utf8(text.raw)) return false;
        if (text.escaped) {
            const size_t before = chars.size();
            if (!append_unescaped(chars, text.raw)) {
                chars.resize(before);
                return c.ours && defer_text(begin, c, row);
            }
        } else {
            chars.insert(chars.end(), text.raw.begin(), text.raw.end());
        }
        return end_text();
    }

    bool append_json(Cursor& c, int64_t row) {
        const char* const begin = c.at;
        if (!skip_unwanted(c)) return false;
        if (!is_utf8({begin, static_cast<size_t>(c.at - begin)})) return defer_text(begin, c, row);
        chars.insert(chars.end(), begin, c.at);
        return end_text();
    }

    bool end_text() {
        if (chars.size() > INT32_MAX) return false;
        ends.push_back(static_cast<int32_t>(chars.size()));
        valid.push_back(1);
        return true;
    }

    bool append_int64(Cursor& c, int64_t row) {
        const char* const begin = c.at;
        Number number;
        if (*begin != '-' && !is_digit(*begin)) return defer(c, row);
        if (!scan_number(c, number)) return false;
        int64_t value;
        if (!number.integer || !as_int64(number.raw, value)) return defer_text(begin, c, row);
        numbers.push_back(value);
        valid.push_back(1);
        return true;
    }

    bool append_float64(Cursor& c, int64_t row) {
        const char* const begin = c.at;
        Number number;
        if (*begin != '-' && !is_digit(*begin)) return defer(c, row);
        if (!scan_number(c, number)) return false;
        double value;
        if (!as_double(number, value)) return defer_text(begin, c, row);
        doubles.push_back(value);
        valid.push_back(1);
        return true;
    }

    bool append_boolean(Cursor& c, int64_t row) {
        const bool yes = *c.at == 't';
        if (!yes && *c.at != 'f') return defer(c, row);
        if (!take_literal(c, yes ? "true" : "false")) return false;
        flags.push_back(yes);
        valid.push_back(1);
        return true;
    }

    bool append_moment(Cursor& c, int64_t row) {
        const char* const begin = c.at;
        Text text;
        if (!scan_string(c, text)) return false;
        if (kind == Kind::date) {
            int32_t day;
            if (!text.escaped && parse_date(text.raw, day)) {
                days.push_back(day);
                valid.push_back(1);
                return true;
            }
        } else {
            int64_t micros;
            if (!text.escaped && parse_timestamp(text.raw, micros)) {
                numbers.push_back(micros);
                valid.push_back(1);
                return true;
            }
        }
        c.at = begin;
        return defer(c, row);
    }

    bool append_object(Cursor& c, int64_t row) {
        ++c.at;
        if (!append_members(c, row)) return false;
        valid.push_back(1);
        return true;
    }

    bool append_list(Cursor& c, int64_t row) {
        ++c.at;
        Column& element = children[0];
        skip_space(c);
        if (!take(c, ']')) {
            for (;;) {
                if (!element.append(c, row)) return false;
                skip_space(c);
                if (take(c, ']')) break;
                if (!take(c, ',')) return false;
                skip_space(c);
            }
        }
        if (element.size() > INT32_MAX) return false;
        ends.push_back(static_cast<int32_t>(element.size()));
        valid.push_back(1);
        return true;
    }
};

}  // namespace airberg
