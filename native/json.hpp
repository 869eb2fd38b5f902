// Scanning of JSON text (RFC 8259), strict and without allocation.
//
// Every function takes a cursor that stands on the first byte of what it reads and leaves it behind the last.
// `false` means "not plain JSON as we take it": the caller gives the line to the Python reader, which decides.
// The text ends with a newline or a NUL byte, neither of which is valid inside a token, so that no function
// has to compare with the end for each byte.

#pragma once

#include <charconv>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace airberg {

constexpr int kMaxDepth = 1200;  // deeper than Python's own reader goes

struct Cursor {
    const char* at;
    const char* end;  // one behind the last byte of the block; readable, and a NUL
    // The text was written by us: half a surrogate pair in a value is left to Python, it does not spoil the line.
    bool ours = false;
};

struct Text {
    std::string_view raw;  // between the quotes
    bool escaped = false;  // has a backslash
    bool ascii = true;     // has no byte above 0x7F
};

inline void skip_space(Cursor& c) {
    while (*c.at == ' ' || *c.at == '\t' || *c.at == '\r') ++c.at;
}

inline bool take(Cursor& c, char expected) {
    if (*c.at != expected) return false;
    ++c.at;
    return true;
}

inline bool take_literal(Cursor& c, std::string_view word) {
    if (static_cast<size_t>(c.end - c.at) < word.size()) return false;
    if (std::memcmp(c.at, word.data(), word.size()) != 0) return false;
    c.at += word.size();
    return true;
}

// ---- strings -----------------------------------------------------------------------------------------------

constexpr uint64_t kOnes = 0x0101010101010101ULL;
constexpr uint64_t kHigh = 0x8080808080808080ULL;

inline uint64_t bytes_equal(uint64_t word, uint64_t pattern) {
    const uint64_t x = word ^ pattern;
    return (x - kOnes) & ~x & kHigh;
}

// Bytes that end a run of plain text: a quote, a backslash, a control character, the start of a non-ASCII one.
// The lowest bit that is set is exact, which is the only one that is used.
inline uint64_t bytes_to_look_at(uint64_t word) {
    const uint64_t control = (word - kOnes * 0x20) & ~word & kHigh;
    return bytes_equal(word, kOnes * '"') | bytes_equal(word, kOnes * '\\') | control | (word & kHigh);
}

inline bool scan_string(Cursor& c, Text& text) {
    if (!take(c, '"')) return false;
    const char* const begin = c.at;
    const char* p = begin;
    text.escaped = false;
    text.ascii = true;
    for (;;) {
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
        while (c.end - p >= 8) {
            uint64_t word;
            std::memcpy(&word, p, 8);
            const uint64_t found = bytes_to_look_at(word);
            if (found == 0) {
                p += 8;
                continue;
            }
            p += __builtin_ctzll(found) >> 3;
            break;
        }
#endif
        const unsigned char byte = static_cast<unsigned char>(*p);
        if (byte == '"') {
            text.raw = {begin, static_cast<size_t>(p - begin)};
            c.at = p + 1;
            return true;
        }
        if (byte == '\\') {
            text.escaped = true;
            if (static_cast<unsigned char>(p[1]) < 0x20) return false;
            p += 2;
        } else if (byte < 0x20) {
            return false;
        } else {
            if (byte >= 0x80) text.ascii = false;
            ++p;
        }
    }
}

inline int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

inline bool read_hex4(const char* p, const char* end, uint32_t& out) {
    if (end - p < 4) return false;
    out = 0;
    for (int i = 0; i < 4; ++i) {
        const int digit = hex_digit(p[i]);
        if (digit < 0) return false;
        out = out << 4 | static_cast<uint32_t>(digit);
    }
    return true;
}

template <class Out>
void append_utf8(Out& out, uint32_t code) {
    char bytes[4];
    size_t n = 0;
    if (code < 0x80) {
        bytes[n++] = static_cast<char>(code);
    } else if (code < 0x800) {
        bytes[n++] = static_cast<char>(0xC0 | code >> 6);
        bytes[n++] = static_cast<char>(0x80 | (code & 0x3F));
    } else if (code < 0x10000) {
        bytes[n++] = static_cast<char>(0xE0 | code >> 12);
        bytes[n++] = static_cast<char>(0x80 | (code >> 6 & 0x3F));
        bytes[n++] = static_cast<char>(0x80 | (code & 0x3F));
    } else {
        bytes[n++] = static_cast<char>(0xF0 | code >> 18);
        bytes[n++] = static_cast<char>(0x80 | (code >> 12 & 0x3F));
        bytes[n++] = static_cast<char>(0x80 | (code >> 6 & 0x3F));
        bytes[n++] = static_cast<char>(0x80 | (code & 0x3F));
    }
    out.insert(out.end(), bytes, bytes + n);
}

// Appends the text with its escapes resolved. `false` for what is no escape, and for a surrogate without its
// other half, which is no Unicode text.
template <class Out>
bool append_unescaped(Out& out, std::string_view raw) {
    const char* p = raw.data();
    const char* const end = p + raw.size();
    while (p < end) {
        const void* found = std::memchr(p, '\\', static_cast<size_t>(end - p));
        const char* stop = found ? static_cast<const char*>(found) : end;
        out.insert(out.end(), p, stop);
        if (stop == end) return true;
        p = stop + 1;
        if (p == end) return false;
        const char kind = *p++;
        switch (kind) {
            case '"': case '\\': case '/': out.insert(out.end(), kind); break;
            case 'b': out.insert(out.end(), '\b'); break;
            case 'f': out.insert(out.end(), '\f'); break;
            case 'n': out.insert(out.end(), '\n'); break;
            case 'r': out.insert(out.end(), '\r'); break;
            case 't': out.insert(out.end(), '\t'); break;
            case 'u': {
                uint32_t code, low;
                if (!read_hex4(p, end, code)) return false;
                p += 4;
                if (code >= 0xD800 && code < 0xE000) {
                    const bool pair = code < 0xDC00 && end - p >= 6 && p[0] == '\\' && p[1] == 'u' &&
                                      read_hex4(p + 2, end, low) && low >= 0xDC00 && low < 0xE000;
                    if (!pair) return false;
                    code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
                    p += 6;
                }
                append_utf8(out, code);
                break;
            }
            default: return false;
        }
    }
    return true;
}

// Takes what is only looked at.
struct Nowhere {
    char* end() const { return nullptr; }
    void insert(char*, const char*, const char*) {}
    void insert(char*, char) {}
};

// Whether bytes are well-formed UTF-8 (Unicode 15, table 3-7).
inline bool is_utf8(std::string_view text) {
    const unsigned char* p = reinterpret_cast<const unsigned char*>(text.data());
    const unsigned char* const end = p + text.size();
    while (p < end) {
        const unsigned char lead = *p;
        if (lead < 0x80) {
            ++p;
            continue;
        }
        int more;
        unsigned char low = 0x80, high = 0xBF;
        if (lead >= 0xC2 && lead <= 0xDF) {
            more = 1;
        } else if (lead >= 0xE0 && lead <= 0xEF) {
            more = 2;
            if (lead == 0xE0) low = 0xA0;
            if (lead == 0xED) high = 0x9F;
        } else if (lead >= 0xF0 && lead <= 0xF4) {
            more = 3;
            if (lead == 0xF0) low = 0x90;
            if (lead == 0xF4) high = 0x8F;
        } else {
            return false;
        }
        if (end - p <= more) return false;
        if (p[1] < low || p[1] > high) return false;
        for (int i = 2; i <= more; ++i) {
            if ((p[i] & 0xC0) != 0x80) return false;
        }
        p += more + 1;
    }
    return true;
}

// ---- numbers -----------------------------------------------------------------------------------------------

struct Number {
    std::string_view raw;
    bool integer = true;  // digits only, perhaps with a minus
};

inline bool is_digit(char c) { return c >= '0' && c <= '9'; }

inline bool scan_number(Cursor& c, Number& number) {
    const char* const begin = c.at;
    const char* p = begin;
    number.integer = true;
    if (*p == '-') ++p;
    if (*p == '0') {
        ++p;
    } else {
        if (!is_digit(*p)) return false;
        while (is_digit(*p)) ++p;
    }
    if (*p == '.') {
        number.integer = false;
        if (!is_digit(*++p)) return false;
        while (is_digit(*p)) ++p;
    }
    if (*p == 'e' || *p == 'E') {
        number.integer = false;
        ++p;
        if (*p == '+' || *p == '-') ++p;
        if (!is_digit(*p)) return false;
        while (is_digit(*p)) ++p;
    }
    number.raw = {begin, static_cast<size_t>(p - begin)};
    c.at = p;
    return true;
}

inline bool as_int64(std::string_view raw, int64_t& out) {
    const auto [stop, fault] = std::from_chars(raw.data(), raw.data() + raw.size(), out);
    return fault == std::errc() && stop == raw.data() + raw.size();
}

inline bool as_double(const Number& number, double& out) {
    int64_t whole;
    if (number.integer && number.raw.size() <= 15 && as_int64(number.raw, whole)) {
        out = static_cast<double>(whole);
        return true;
    }
    const char* const end = number.raw.data() + number.raw.size();
    const auto [stop, fault] = std::from_chars(number.raw.data(), end, out);
    return fault == std::errc() && stop == end;
}

// ---- whole values ------------------------------------------------------------------------------------------

// What is looked at inside the texts of a value that is passed over.
enum class Check { nothing, escapes, everything };

inline bool skip_value(Cursor& c, Check check, int depth = 0) {
    switch (*c.at) {
        case '"': {
            Text text;
            if (!scan_string(c, text)) return false;
            if (check == Check::nothing) return true;
            if (check == Check::everything && !text.ascii && !is_utf8(text.raw)) return false;
            if (text.escaped) {
                Nowhere nowhere;
                if (!append_unescaped(nowhere, text.raw)) return false;
            }
            return true;
        }
        case '{': case '[': {
            if (depth >= kMaxDepth) return false;
            const bool object = *c.at == '{';
            const char close = object ? '}' : ']';
            ++c.at;
            skip_space(c);
            if (take(c, close)) return true;
            for (;;) {
                if (object) {
                    if (*c.at != '"' || !skip_value(c, check, depth + 1)) return false;
                    skip_space(c);
                    if (!take(c, ':')) return false;
                    skip_space(c);
                }
                if (!skip_value(c, check, depth + 1)) return false;
                skip_space(c);
                if (take(c, close)) return true;
                if (!take(c, ',')) return false;
                skip_space(c);
            }
        }
        case 't': return take_literal(c, "true");
        case 'f': return take_literal(c, "false");
        case 'n': return take_literal(c, "null");
        default: {
            Number number;
            return scan_number(c, number);
        }
    }
}

// Passes over a value that nobody wants; Python would still refuse the line for an escape that is none.
inline bool skip_unwanted(Cursor& c) { return skip_value(c, c.ours ? Check::nothing : Check::escapes); }

}  // namespace airberg
