// OpenSSL's libcrypto, found when it is first needed. Its EVP interface has opaque pointers only, so neither its
// headers nor its library are needed to build; where there is none at run time, Python does the work instead.

#pragma once

#include <dlfcn.h>

#include <cstddef>

namespace airberg {

// The functions that are used, with the types that they have in OpenSSL 1.1 and 3.
#define AIRBERG_LIBCRYPTO(USE)                                                                              \
    USE(void*, EVP_CIPHER_CTX_new, ())                                                                      \
    USE(void, EVP_CIPHER_CTX_free, (void*))                                                                 \
    USE(const void*, EVP_aes_256_gcm, ())                                                                   \
    USE(int, EVP_EncryptInit_ex, (void*, const void*, void*, const unsigned char*, const unsigned char*))   \
    USE(int, EVP_EncryptUpdate, (void*, unsigned char*, int*, const unsigned char*, int))                   \
    USE(int, EVP_EncryptFinal_ex, (void*, unsigned char*, int*))                                            \
    USE(int, EVP_DecryptInit_ex, (void*, const void*, void*, const unsigned char*, const unsigned char*))   \
    USE(int, EVP_DecryptUpdate, (void*, unsigned char*, int*, const unsigned char*, int))                   \
    USE(int, EVP_DecryptFinal_ex, (void*, unsigned char*, int*))                                            \
    USE(int, EVP_CIPHER_CTX_ctrl, (void*, int, int, void*))                                                 \
    USE(void*, EVP_MD_CTX_new, ())                                                                          \
    USE(void, EVP_MD_CTX_free, (void*))                                                                     \
    USE(int, EVP_MD_CTX_copy_ex, (void*, const void*))                                                      \
    USE(const void*, EVP_sha256, ())                                                                        \
    USE(int, EVP_DigestInit_ex, (void*, const void*, void*))                                                \
    USE(int, EVP_DigestUpdate, (void*, const void*, size_t))                                                \
    USE(int, EVP_DigestFinal_ex, (void*, unsigned char*, unsigned int*))                                    \
    USE(int, RAND_bytes, (unsigned char*, int))                                                             \
    USE(void, OPENSSL_cleanse, (void*, size_t))                                                             \
    USE(void, ERR_clear_error, ())

struct Libcrypto {
#define AIRBERG_MEMBER(result, name, arguments) result(*name) arguments;
    AIRBERG_LIBCRYPTO(AIRBERG_MEMBER)
#undef AIRBERG_MEMBER
};

constexpr int kGetTag = 0x10;  // EVP_CTRL_AEAD_GET_TAG
constexpr int kSetTag = 0x11;  // EVP_CTRL_AEAD_SET_TAG

inline bool loaded_from(const char* name, Libcrypto& found) {
    void* const library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) return false;
    bool complete = true;
#define AIRBERG_LOAD(result, name, arguments)                                        \
    found.name = reinterpret_cast<result(*) arguments>(dlsym(library, #name)); \
    complete = complete && found.name != nullptr;
    AIRBERG_LIBCRYPTO(AIRBERG_LOAD)
#undef AIRBERG_LOAD
    return complete;  // it stays open to the end of the process
}

// The library, or nullptr where there is none that has all of it.
inline const Libcrypto* libcrypto() {
    static Libcrypto found;
    static const bool there = loaded_from("libcrypto.so.3", found) || loaded_from("libcrypto.so.1.1", found);
    return there ? &found : nullptr;
}

}  // namespace airberg
