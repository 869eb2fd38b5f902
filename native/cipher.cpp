// The Python module `airberg.keys._cipher`: whole columns encrypted, decrypted, hashed and written as text. See
// `airberg/keys/arrays.py` and `airberg/columns/canonical.py`. Uses the stable ABI of CPython 3.11.
//
// Every function gives the interpreter lock away while it works, and keeps nothing: a key is in memory of ours
// for one call, inside contexts of OpenSSL, which wipes them.

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <memory>
#include <string_view>

#include "calls.hpp"
#include "canonical.hpp"
#include "parts.hpp"
#include "sealing.hpp"
#include "texts.hpp"

namespace {

using namespace airberg;

std::string_view view(const char* data, Py_ssize_t size) { return {data, static_cast<size_t>(size)}; }

bool possible(Py_ssize_t parts) {
    return (parts >= 1 && parts <= 64) || refused("1 to 64 threads are possible");
}

// The validity bits of some rows, moved to the beginning; None without nulls.
template <class Values>
PyObject* validity_of(const Values& values) {
    if (values.validity == nullptr) Py_RETURN_NONE;
    Made made;
    if (!made.make((values.rows + 7) / 8)) return nullptr;
    uint8_t* const out = made.data();
    std::memset(out, 0, (values.rows + 7) / 8);
    for (size_t row = 0; row < values.rows; ++row) {
        if (values.valid(row)) out[row >> 3] |= static_cast<uint8_t>(1 << (row & 7));
    }
    return made.release();
}

template <class Values>
PyObject* array_of(const Values& values, Made& ends, Made& chars) {
    PyObject* const validity = validity_of(values);
    if (validity == nullptr) return nullptr;
    return Py_BuildValue("(NNN)", validity, ends.release(), chars.release());
}

const Libcrypto* the_library() {
    const Libcrypto* const ssl = libcrypto();
    if (ssl == nullptr) PyErr_SetString(PyExc_RuntimeError, "there is no libcrypto");
    return ssl;
}

PyObject* available(PyObject*, PyObject*) { return PyBool_FromLong(libcrypto() != nullptr); }

// ---- encrypt, decrypt, hash --------------------------------------------------------------------------------

PyObject* encrypt(PyObject*, PyObject* arguments) {
    const char *key, *iv_key, *iv_prefix, *head, *aad;
    Py_ssize_t key_size, iv_key_size, iv_prefix_size, head_size, aad_size;
    Py_ssize_t parts;
    PyObject* given;
    const Libcrypto* const ssl = the_library();
    if (ssl == nullptr || !PyArg_ParseTuple(arguments, "y#z#y#y#y#nO:encrypt", &key, &key_size, &iv_key, &iv_key_size,
                                            &iv_prefix, &iv_prefix_size, &head, &head_size, &aad, &aad_size, &parts,
                                            &given)) {
        return nullptr;
    }
    const bool sizes = key_size == kKeyBytes && head_size == kHeadBytes && (iv_key == nullptr || iv_key_size == kKeyBytes);
    Views views;
    Texts plain;
    if (!sizes) return refusal("a key has 32 bytes and a head 5");
    if (!possible(parts) || !texts_from(given, views, plain)) return nullptr;
    Made ends, chars;
    if (!ends.make((plain.rows + 1) * plain.end_size())) return nullptr;
    uint64_t size = 0;
    const Ends written(ends.data(), plain.wide);
    if (!unlocked([&] { size = sealed_ends(plain, written); }) || !chars.make(size)) return nullptr;
    uint8_t* const out = chars.data();
    const bool done = unlocked([&] {
        const RandomBlock random(*ssl, iv_key == nullptr ? plain.rows : 0);
        in_parts(plain.rows, static_cast<size_t>(parts), [&](size_t, size_t first, size_t last) {
            Gcm gcm(*ssl, reinterpret_cast<const uint8_t*>(key), true);
            const auto seal = [&](auto ivs) {
                seal_rows(gcm, ivs, view(head, head_size), view(aad, aad_size), plain, first, last,
                          out + written.get(first));
            };
            if (iv_key == nullptr) {
                seal(RandomIvs(random));
            } else {
                seal(SyntheticIvs(*ssl, view(iv_key, iv_key_size), view(iv_prefix, iv_prefix_size)));
            }
        });
    });
    return done ? array_of(plain, ends, chars) : nullptr;
}

// Keys from a tuple of `(id, key)`; what they point to belongs to the tuple.
bool keys_from(PyObject* given, std::vector<NumberedKey>& keys) {
    if (!PyTuple_Check(given)) return refused("a tuple of keys was expected");
    for (Py_ssize_t i = 0; i < PyTuple_Size(given); ++i) {
        unsigned long id;
        const char* raw;
        Py_ssize_t size;
        PyObject* const item = PyTuple_GetItem(given, i);
        if (!PyTuple_Check(item)) return refused("a key is a tuple");
        if (!PyArg_ParseTuple(item, "ky#", &id, &raw, &size)) return false;
        if (size != kKeyBytes) return refused("a key has 32 bytes");
        keys.push_back({static_cast<uint32_t>(id), {raw, kKeyBytes}});
    }
    return true;
}

PyObject* decrypt(PyObject*, PyObject* arguments) {
    const char* aad;
    Py_ssize_t aad_size, parts;
    PyObject *given_keys, *given;
    const Libcrypto* const ssl = the_library();
    if (ssl == nullptr ||
        !PyArg_ParseTuple(arguments, "Oy#nO:decrypt", &given_keys, &aad, &aad_size, &parts, &given)) {
        return nullptr;
    }
    Views views;
    Texts sealed;
    std::vector<NumberedKey> keys;
    if (!possible(parts) || !keys_from(given_keys, keys) || !texts_from(given, views, sealed)) return nullptr;
    Made ends, chars;
    if (!ends.make((sealed.rows + 1) * sealed.end_size())) return nullptr;
    Opened outcome;
    uint64_t size = 0;
    const Ends written(ends.data(), sealed.wide);
    if (!unlocked([&] { size = opened_ends(sealed, written, outcome); }) || !chars.make(size)) return nullptr;
    uint8_t* const out = chars.data();
    const bool done = unlocked([&] {
        const size_t rows = outcome.fault == Fault::none ? sealed.rows : outcome.row;
        std::vector<Opened> outcomes(static_cast<size_t>(parts));
        in_parts(rows, outcomes.size(), [&](size_t part, size_t first, size_t last) {
            Openers openers(*ssl, keys);
            outcomes[part] = open_rows(openers, view(aad, aad_size), sealed, first, last, out + written.get(first));
        });
        const auto failed = [](const Opened& opened) { return opened.fault != Fault::none; };
        const auto first_fault = std::find_if(outcomes.begin(), outcomes.end(), failed);
        if (first_fault != outcomes.end()) outcome = *first_fault;
    });
    if (!done) return nullptr;
    if (outcome.fault != Fault::none) {
        return Py_BuildValue("(nik)", static_cast<Py_ssize_t>(outcome.row), static_cast<int>(outcome.fault),
                             static_cast<unsigned long>(outcome.key_id));
    }
    return array_of(sealed, ends, chars);
}

PyObject* hashes(PyObject*, PyObject* arguments) {
    const char* key;
    Py_ssize_t key_size, parts;
    PyObject* given;
    const Libcrypto* const ssl = the_library();
    if (ssl == nullptr || !PyArg_ParseTuple(arguments, "y#nO:hashes", &key, &key_size, &parts, &given)) return nullptr;
    Views views;
    Texts texts;
    if (!possible(parts) || !texts_from(given, views, texts)) return nullptr;
    Made ends, chars;
    if (!ends.make((texts.rows + 1) * 4)) return nullptr;
    uint64_t size = 0;
    const Ends written(ends.data(), false);
    if (!unlocked([&] { size = hash_ends(texts, written); }) || !chars.make(size)) return nullptr;
    uint8_t* const out = chars.data();
    const bool done = unlocked([&] {
        in_parts(texts.rows, static_cast<size_t>(parts), [&](size_t, size_t first, size_t last) {
            Hmac hmac(*ssl, view(key, key_size), {});
            hash_rows(hmac, texts, first, last, out + written.get(first));
        });
    });
    return done ? array_of(texts, ends, chars) : nullptr;
}

// ---- text --------------------------------------------------------------------------------------------------

struct FixedValues {
    size_t rows = 0;
    size_t offset = 0;
    const uint8_t* validity = nullptr;
    const uint8_t* values = nullptr;

    bool valid(size_t row) const {
        const size_t at = offset + row;
        return validity == nullptr || (validity[at >> 3] >> (at & 7) & 1) != 0;
    }
};

bool form_from(std::string_view name, Form& form) {
    constexpr std::string_view names[] = {"boolean", "int32",     "int64",       "float64", "date",
                                          "time",    "timestamp", "timestamptz", "decimal"};
    for (size_t i = 0; i < std::size(names); ++i) {
        if (names[i] == name) {
            form = static_cast<Form>(i);
            return true;
        }
    }
    return refused("no such form");
}

PyObject* texts(PyObject*, PyObject* arguments) {
    const char* name;
    int scale;
    Py_ssize_t rows, offset;
    PyObject *validity, *given;
    Form form;
    if (!PyArg_ParseTuple(arguments, "sinnOO:texts", &name, &scale, &rows, &offset, &validity, &given)) return nullptr;
    if (!readable_rows(rows, offset) || !form_from(name, form)) return nullptr;
    if (scale < 0 || scale > 38) return refusal("no such scale");
    Views views;
    FixedValues values;
    values.rows = static_cast<size_t>(rows);
    values.offset = static_cast<size_t>(offset);
    size_t validity_size = 0, values_size = 0;
    if (!views.hold(validity, values.validity, validity_size) || !views.hold(given, values.values, values_size)) {
        return nullptr;
    }
    const size_t end = values.offset + values.rows;
    const size_t width = kFormWidths[static_cast<size_t>(form)];
    if (!enough_bits(values.validity, validity_size, end)) return nullptr;
    if (rows > 0 && values_size < (width == 0 ? (end + 7) / 8 : end * width)) return refusal("too few values");
    Made ends, chars;
    if (!ends.make((values.rows + 1) * 4)) return nullptr;
    uint8_t* const ends_out = ends.data();
    std::unique_ptr<char[]> written_to;
    size_t size = 0;
    const bool done = unlocked([&] {
        written_to.reset(new char[values.rows * kFormTexts[static_cast<size_t>(form)] + 1]);
        char* const begin = written_to.get();
        char* out = begin;
        Ends written(ends_out, false);
        written.set(0, 0);
        for (size_t row = 0; row < values.rows; ++row) {
            if (values.valid(row)) out = put_text(out, form, values.values, values.offset + row, scale);
            written.set(row + 1, static_cast<uint64_t>(out - begin));
        }
        size = static_cast<size_t>(out - begin);
    });
    if (!done || !chars.make(size)) return nullptr;
    std::memcpy(chars.data(), written_to.get(), size);
    return array_of(values, ends, chars);
}

PyMethodDef methods[] = {
    {"available", available, METH_NOARGS, "available() -> bool\n\nWhether there is a libcrypto."},
    {"encrypt", encrypt, METH_VARARGS,
     "encrypt(key, iv_key, iv_prefix, head, aad, threads, texts) -> (validity, ends, chars)\n\n"
     "The ciphertexts of an array; IVs are random when `iv_key` is None."},
    {"decrypt", decrypt, METH_VARARGS,
     "decrypt(keys, aad, threads, texts) -> (validity, ends, chars) | (row, fault, key_id)\n\n"
     "The plaintexts of an array, or the first value that has none: 1 no ciphertext, 2 no such key, 3 no match."},
    {"hashes", hashes, METH_VARARGS,
     "hashes(key, threads, texts) -> (validity, ends, chars)\n\n"
     "The HMAC-SHA256 of each text as 64 hexadecimal digits, the ends in 32 bits."},
    {"texts", texts, METH_VARARGS,
     "texts(form, scale, rows, offset, validity, values) -> (validity, ends, chars)\n\nThe canonical texts of values."},
    {nullptr, nullptr, 0, nullptr},
};

PyModuleDef module_definition = {PyModuleDef_HEAD_INIT, "_cipher", "Encryption of whole columns.", -1,
                                 methods, nullptr, nullptr, nullptr, nullptr};

}  // namespace

PyMODINIT_FUNC PyInit__cipher() { return PyModule_Create(&module_definition); }
