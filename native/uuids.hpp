// UUIDs of version 7 as text (RFC 9562): a moment in milliseconds, then random bits.

#pragma once

#include <cstdint>

namespace airberg {

constexpr int kUuidLength = 36;
constexpr int kUuidRandomBytes = 10;

// Writes one, from its moment and ten random bytes of which six bits are not used.
inline void write_uuid7(char* out, uint64_t milliseconds, const unsigned char* random) {
    static const char* const kDigits = "0123456789abcdef";
    unsigned char bytes[16];
    for (int i = 0; i < 6; ++i) bytes[i] = static_cast<unsigned char>(milliseconds >> (40 - 8 * i));
    for (int i = 0; i < kUuidRandomBytes; ++i) bytes[6 + i] = random[i];
    bytes[6] = static_cast<unsigned char>((bytes[6] & 0x0F) | 0x70);  // version 7
    bytes[8] = static_cast<unsigned char>((bytes[8] & 0x3F) | 0x80);  // variant of the RFC
    for (int i = 0; i < 16; ++i) {
        if (i == 4 || i == 6 || i == 8 || i == 10) *out++ = '-';
        *out++ = kDigits[bytes[i] >> 4];
        *out++ = kDigits[bytes[i] & 15];
    }
}

}  // namespace airberg
