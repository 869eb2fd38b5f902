// JSON texts checked, and written anew as `airberg.columns.json_text.json_text` writes them.

#pragma once

#include <cstddef>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "json.hpp"
#include "plain_values.hpp"

namespace airberg {

constexpr int kPlainDepth = 64;
constexpr size_t kPlainMembers = 64;  // of an object; with more, looking for names that occur twice takes long
constexpr size_t kPlainInteger = 18;
constexpr size_t kSmallZeros = 6;  // smaller numbers are written with an exponent

// Whether a number without an exponent is written as it was read.
inline bool keeps_its_form(std::string_view raw) {
    Digits number;
    if (!digits_from(raw, number)) return false;
    if (!number.pointed) return number.whole.size() <= kPlainInteger && raw != "-0";
    if (!number.significant().empty()) return true;
    const size_t zeros = number.fraction.find_first_not_of('0');
    return zeros == std::string_view::npos ? number.fraction.size() <= kSmallZeros : zeros < kSmallZeros;
}

template <class Out>
void append_quoted(Out& out, std::string_view text) {
    constexpr char kHex[] = "0123456789abcdef";
    out.push_back('"');
    for (const char c : text) {
        const unsigned char byte = static_cast<unsigned char>(c);
        if (c == '"' || c == '\\') {
            out.push_back('\\');
            out.push_back(c);
        } else if (byte >= 0x20) {
            out.push_back(c);
        } else {
            out.push_back('\\');
            const char* const found = std::strchr("\bb\ff\nn\rr\tt", c);
            if (byte != 0 && found != nullptr) {
                out.push_back(found[1]);
                continue;
            }
            for (const char digit : {'u', '0', '0', kHex[byte >> 4], kHex[byte & 15]}) out.push_back(digit);
        }
    }
    out.push_back('"');
}

class JsonRewriter {
  public:
    // Whether a text is JSON, beyond doubt.
    bool is_json(std::string_view text) {
        Cursor c = cursor(text);
        writes_ = false;
        pass_space(c);
        if (!value(c, 0)) return false;
        pass_space(c);
        return c.at == c.end;
    }

    // The value without space between its parts; `false` where Python might write something else.
    bool compact(std::string_view text, std::string_view& made) {
        Cursor c = cursor(text);
        writes_ = true;
        out_.clear();
        if (!value(c, 0) || c.at != c.end) return false;
        made = out_;
        return true;
    }

  private:
    bool writes_ = true;
    std::string text_;  // with the NUL behind it that the scanning wants
    std::string out_, unescaped_;

    Cursor cursor(std::string_view text) {
        text_.assign(text);
        return {text_.c_str(), text_.c_str() + text_.size()};
    }

    static void pass_space(Cursor& c) {
        while (*c.at == ' ' || *c.at == '\t' || *c.at == '\r' || *c.at == '\n') ++c.at;
    }

    void write(std::string_view piece) {
        if (writes_) out_.append(piece);
    }

    bool value(Cursor& c, int depth) {
        switch (*c.at) {
            case '"': return string(c);
            case '{': case '[': return depth < kPlainDepth && nested(c, *c.at == '{', depth);
            case 't': return word(c, "true");
            case 'f': return word(c, "false");
            case 'n': return word(c, "null");
            default: break;
        }
        Number number;
        if (!scan_number(c, number) || (writes_ && !keeps_its_form(number.raw))) return false;
        write(number.raw);
        return true;
    }

    bool word(Cursor& c, std::string_view expected) {
        write(expected);
        return take_literal(c, expected);
    }

    bool string(Cursor& c) {
        Text text;
        if (!scan_string(c, text) || (!text.ascii && !is_utf8(text.raw))) return false;
        if (!text.escaped) {
            write("\"");
            write(text.raw);
            write("\"");
            return true;
        }
        unescaped_.clear();
        if (!append_unescaped(unescaped_, text.raw)) return false;
        if (writes_) append_quoted(out_, unescaped_);
        return true;
    }

    bool nested(Cursor& c, bool object, int depth) {
        const char close = object ? '}' : ']';
        std::vector<std::pair<size_t, size_t>> names;
        write({c.at++, 1});
        pass_space(c);
        if (!take(c, close)) {
            for (;;) {
                if (object && !name(c, names)) return false;
                if (!value(c, depth + 1)) return false;
                pass_space(c);
                if (take(c, close)) break;
                if (!take(c, ',')) return false;
                write(",");
                pass_space(c);
            }
        }
        write({&close, 1});
        return true;
    }

    bool name(Cursor& c, std::vector<std::pair<size_t, size_t>>& names) {
        const size_t begin = out_.size();
        if (*c.at != '"' || !string(c)) return false;
        if (writes_) {
            const std::string_view all = out_, mine = all.substr(begin);
            for (const auto& [at, size] : names) {
                if (all.substr(at, size) == mine) return false;
            }
            if (names.size() == kPlainMembers) return false;
            names.emplace_back(begin, mine.size());
        }
        pass_space(c);
        if (!take(c, ':')) return false;
        write(":");
        pass_space(c);
        return true;
    }
};

}  // namespace airberg
