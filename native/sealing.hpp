// Column encryption over whole arrays. The cryptography is OpenSSL's; here is only the loop around it.
//
// A ciphertext is `0x01 | key id (4) | IV (12) | ciphertext | tag (16)`; see `airberg/keys/cipher.py`, which says
// the same value by value. The key schedule is made once for an array, and each value only sets its IV.

#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string_view>
#include <vector>

#include "libcrypto.hpp"
#include "texts.hpp"

namespace airberg {

constexpr size_t kKeyBytes = 32;
constexpr size_t kHeadBytes = 5;  // the version and the key id
constexpr size_t kIvBytes = 12;
constexpr size_t kTagBytes = 16;
constexpr size_t kOverhead = kHeadBytes + kIvBytes + kTagBytes;
constexpr size_t kDigestBytes = 32;

inline const uint8_t* bytes_of(std::string_view text) { return reinterpret_cast<const uint8_t*>(text.data()); }

inline void must(int done) {
    if (done != 1) throw std::runtime_error("libcrypto failed");
}

// AES-256-GCM with one key, in one direction.
class Gcm {
  public:
    Gcm(const Libcrypto& ssl, const uint8_t* key, bool seals) : ssl_(ssl), context_(ssl.EVP_CIPHER_CTX_new()) {
        if (context_ == nullptr) throw std::bad_alloc();
        const auto begin = seals ? ssl.EVP_EncryptInit_ex : ssl.EVP_DecryptInit_ex;
        if (begin(context_, ssl.EVP_aes_256_gcm(), nullptr, key, nullptr) != 1) {
            ssl.EVP_CIPHER_CTX_free(context_);
            throw std::runtime_error("libcrypto has no AES-256-GCM");
        }
    }
    ~Gcm() { ssl_.EVP_CIPHER_CTX_free(context_); }  // which wipes the key schedule
    Gcm(const Gcm&) = delete;
    Gcm& operator=(const Gcm&) = delete;

    // Writes the ciphertext and the tag.
    void seal(const uint8_t* iv, std::string_view aad, std::string_view plain, uint8_t* out) {
        uint8_t nothing[kTagBytes];
        int written;
        must(ssl_.EVP_EncryptInit_ex(context_, nullptr, nullptr, nullptr, iv));
        in_pieces(aad, [&](const uint8_t* piece, int size) {
            must(ssl_.EVP_EncryptUpdate(context_, nullptr, &written, piece, size));
        });
        in_pieces(plain, [&](const uint8_t* piece, int size) {
            must(ssl_.EVP_EncryptUpdate(context_, out, &written, piece, size));
            out += size;
        });
        must(ssl_.EVP_EncryptFinal_ex(context_, nothing, &written));
        must(ssl_.EVP_CIPHER_CTX_ctrl(context_, kGetTag, kTagBytes, out));
    }

    // Writes the plaintext of a ciphertext that its tag follows; `false` when key, data or bytes do not match.
    bool open(const uint8_t* iv, std::string_view aad, std::string_view sealed, uint8_t* out) {
        uint8_t nothing[kTagBytes];
        uint8_t tag[kTagBytes];
        int written;
        const std::string_view body = sealed.substr(0, sealed.size() - kTagBytes);
        std::memcpy(tag, sealed.data() + body.size(), kTagBytes);
        must(ssl_.EVP_DecryptInit_ex(context_, nullptr, nullptr, nullptr, iv));
        in_pieces(aad, [&](const uint8_t* piece, int size) {
            must(ssl_.EVP_DecryptUpdate(context_, nullptr, &written, piece, size));
        });
        in_pieces(body, [&](const uint8_t* piece, int size) {
            must(ssl_.EVP_DecryptUpdate(context_, out, &written, piece, size));
            out += size;
        });
        must(ssl_.EVP_CIPHER_CTX_ctrl(context_, kSetTag, kTagBytes, tag));
        if (ssl_.EVP_DecryptFinal_ex(context_, nothing, &written) == 1) return true;
        ssl_.ERR_clear_error();  // else Python's own use of OpenSSL would find it
        return false;
    }

  private:
    // libcrypto counts in `int`.
    template <class Take>
    static void in_pieces(std::string_view text, Take take) {
        constexpr size_t kPiece = size_t{1} << 30;
        while (!text.empty()) {
            const std::string_view piece = text.substr(0, kPiece);
            take(bytes_of(piece), static_cast<int>(piece.size()));
            text.remove_prefix(piece.size());
        }
    }

    const Libcrypto& ssl_;
    void* context_;
};

// HMAC-SHA256 (RFC 2104) of many texts that begin alike: what is hashed before each of them is hashed once.
class Hmac {
  public:
    // A key of at most 64 bytes, one block of SHA-256.
    Hmac(const Libcrypto& ssl, std::string_view key, std::string_view prefix)
        : ssl_(ssl), inner_(made()), outer_(made()), work_(made()) {
        constexpr size_t kBlock = 64;
        if (key.size() > kBlock) throw std::invalid_argument("a key of more than 64 bytes");
        uint8_t block[kBlock] = {};
        std::memcpy(block, key.data(), key.size());
        for (uint8_t& byte : block) byte ^= 0x36;
        begin(inner_.get(), block, kBlock);
        must(ssl_.EVP_DigestUpdate(inner_.get(), prefix.data(), prefix.size()));
        for (uint8_t& byte : block) byte ^= 0x36 ^ 0x5c;
        begin(outer_.get(), block, kBlock);
        ssl_.OPENSSL_cleanse(block, kBlock);
    }

    void digest(std::string_view text, uint8_t* out) {
        unsigned int size;
        must(ssl_.EVP_MD_CTX_copy_ex(work_.get(), inner_.get()));
        must(ssl_.EVP_DigestUpdate(work_.get(), text.data(), text.size()));
        must(ssl_.EVP_DigestFinal_ex(work_.get(), out, &size));
        must(ssl_.EVP_MD_CTX_copy_ex(work_.get(), outer_.get()));
        must(ssl_.EVP_DigestUpdate(work_.get(), out, kDigestBytes));
        must(ssl_.EVP_DigestFinal_ex(work_.get(), out, &size));
    }

  private:
    struct Free {
        const Libcrypto* ssl;
        void operator()(void* context) const { ssl->EVP_MD_CTX_free(context); }
    };
    using Context = std::unique_ptr<void, Free>;

    Context made() const {
        void* const context = ssl_.EVP_MD_CTX_new();
        if (context == nullptr) throw std::bad_alloc();
        return {context, Free{&ssl_}};
    }

    void begin(void* context, const uint8_t* block, size_t size) {
        must(ssl_.EVP_DigestInit_ex(context, ssl_.EVP_sha256(), nullptr));
        must(ssl_.EVP_DigestUpdate(context, block, size));
    }

    const Libcrypto& ssl_;
    Context inner_, outer_, work_;
};

// ---- IVs ---------------------------------------------------------------------------------------------------

// A random IV for each row, drawn at once.
class RandomBlock {
  public:
    RandomBlock(const Libcrypto& ssl, size_t rows) : bytes_(new uint8_t[rows * kIvBytes + 1]) {
        constexpr size_t kPiece = size_t{1} << 30;  // libcrypto counts in `int`
        for (size_t at = 0; at < rows * kIvBytes; at += kPiece) {
            must(ssl.RAND_bytes(bytes_.get() + at, static_cast<int>(std::min(kPiece, rows * kIvBytes - at))));
        }
    }
    const uint8_t* of(size_t row) const { return bytes_.get() + kIvBytes * row; }

  private:
    std::unique_ptr<uint8_t[]> bytes_;
};

class RandomIvs {
  public:
    explicit RandomIvs(const RandomBlock& block) : block_(block) {}

    void write(size_t row, std::string_view, uint8_t* iv) { std::memcpy(iv, block_.of(row), kIvBytes); }

  private:
    const RandomBlock& block_;
};

class SyntheticIvs {
  public:
    SyntheticIvs(const Libcrypto& ssl, std::string_view key, std::string_view prefix) : hmac_(ssl, key, prefix) {}

    void write(size_t, std::string_view plain, uint8_t* iv) {
        uint8_t digest[kDigestBytes];
        hmac_.digest(plain, digest);
        std::memcpy(iv, digest, kIvBytes);
    }

  private:
    Hmac hmac_;
};

// ---- arrays ------------------------------------------------------------------------------------------------

// The ends of the ciphertexts; returns how many bytes they take.
inline uint64_t sealed_ends(const Texts& plain, Ends ends) {
    uint64_t end = 0;
    ends.set(0, 0);
    for (size_t row = 0; row < plain.rows; ++row) {
        if (plain.valid(row)) end += plain.at(row).size() + kOverhead;
        ends.set(row + 1, end);
    }
    return end;
}

// Encrypts the rows from `first` to `last`; the first of their ciphertexts goes to `out`.
template <class Ivs>
void seal_rows(Gcm& gcm, Ivs& ivs, std::string_view head, std::string_view aad, const Texts& plain, size_t first,
               size_t last, uint8_t* out) {
    for (size_t row = first; row < last; ++row) {
        if (!plain.valid(row)) continue;
        const std::string_view text = plain.at(row);
        std::memcpy(out, head.data(), kHeadBytes);
        uint8_t* const iv = out + kHeadBytes;
        ivs.write(row, text, iv);
        gcm.seal(iv, aad, text, iv + kIvBytes);
        out += text.size() + kOverhead;
    }
}

// The ends of hashes in hexadecimal; returns how many bytes they take.
inline uint64_t hash_ends(const Texts& plain, Ends ends) {
    uint64_t end = 0;
    ends.set(0, 0);
    for (size_t row = 0; row < plain.rows; ++row) {
        if (plain.valid(row)) end += 2 * kDigestBytes;
        ends.set(row + 1, end);
    }
    return end;
}

inline void hash_rows(Hmac& hmac, const Texts& plain, size_t first, size_t last, uint8_t* out) {
    constexpr char kDigits[] = "0123456789abcdef";
    uint8_t digest[kDigestBytes];
    for (size_t row = first; row < last; ++row) {
        if (!plain.valid(row)) continue;
        hmac.digest(plain.at(row), digest);
        for (const uint8_t byte : digest) {
            *out++ = static_cast<uint8_t>(kDigits[byte >> 4]);
            *out++ = static_cast<uint8_t>(kDigits[byte & 15]);
        }
    }
}

// One version of a key.
struct NumberedKey {
    uint32_t id;
    std::string_view raw;
};

enum class Fault { none, foreign, no_key, mismatch };

struct Opened {
    Fault fault = Fault::none;
    size_t row = 0;  // of the fault
    uint32_t key_id = 0;
};

inline bool is_sealed(std::string_view value) { return value.size() >= kOverhead && value[0] == 1; }

// The ends of the plaintexts, up to the first value that is no ciphertext; returns how many bytes they take.
inline uint64_t opened_ends(const Texts& sealed, Ends ends, Opened& outcome) {
    uint64_t end = 0;
    ends.set(0, 0);
    for (size_t row = 0; row < sealed.rows; ++row) {
        if (sealed.valid(row)) {
            const std::string_view value = sealed.at(row);
            if (!is_sealed(value)) {
                outcome = {Fault::foreign, row, 0};
                return end;
            }
            end += value.size() - kOverhead;
        }
        ends.set(row + 1, end);
    }
    return end;
}

// The ciphers of some keys, each made when a value needs it.
class Openers {
  public:
    Openers(const Libcrypto& ssl, const std::vector<NumberedKey>& keys) : ssl_(ssl), keys_(keys), made_(keys.size()) {}

    // The cipher of a key, nullptr when there is none of that id.
    Gcm* find(uint32_t id) {
        if (last_ < keys_.size() && keys_[last_].id == id) return made_[last_].get();
        for (last_ = 0; last_ < keys_.size() && keys_[last_].id != id; ++last_) {
        }
        if (last_ == keys_.size()) return nullptr;
        if (!made_[last_]) made_[last_] = std::make_unique<Gcm>(ssl_, bytes_of(keys_[last_].raw), false);
        return made_[last_].get();
    }

  private:
    const Libcrypto& ssl_;
    const std::vector<NumberedKey>& keys_;
    std::vector<std::unique_ptr<Gcm>> made_;
    size_t last_ = SIZE_MAX;
};

// Writes the plaintexts of the rows from `first` to `last`, up to the first one that has none.
inline Opened open_rows(Openers& openers, std::string_view aad, const Texts& sealed, size_t first, size_t last,
                        uint8_t* out) {
    for (size_t row = first; row < last; ++row) {
        if (!sealed.valid(row)) continue;
        const std::string_view value = sealed.at(row);
        const uint8_t* const head = bytes_of(value);
        const uint32_t id = uint32_t{head[1]} << 24 | uint32_t{head[2]} << 16 | uint32_t{head[3]} << 8 | head[4];
        Gcm* const gcm = openers.find(id);
        if (gcm == nullptr) return {Fault::no_key, row, id};
        if (!gcm->open(head + kHeadBytes, aad, value.substr(kHeadBytes + kIvBytes), out)) {
            return {Fault::mismatch, row, id};
        }
        out += value.size() - kOverhead;
    }
    return {};
}

}  // namespace airberg
