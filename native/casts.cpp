// The Python module `airberg.columns._casts`: columns of JSON values cast at once. See
// `airberg/columns/cast_arrays.py`. Uses the stable ABI of CPython 3.11.

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>

#include <algorithm>
#include <iterator>
#include <string_view>
#include <vector>

#include "calls.hpp"
#include "casts.hpp"

namespace {

using namespace airberg;

// In the order of `Declared` and `Target`.
constexpr std::string_view kDeclared[] = {"text", "number", "date", "time", "moment"};
constexpr std::string_view kTargets[] = {"boolean", "integer", "float32", "float64", "decimal", "date",
                                         "time",    "local",   "instant", "string",  "json",    "parsed", "bytes"};

template <class Names, class Found>
bool named(const Names& names, std::string_view name, Found& found) {
    const auto at = std::find(std::begin(names), std::end(names), name);
    if (at == std::end(names)) return refused("no such type");
    found = static_cast<Found>(at - std::begin(names));
    return true;
}

bool wanted_from(PyObject* given, Wanted& wanted) {
    const char* target;
    if (!PyTuple_Check(given)) return refused("a tuple was expected");
    if (!PyArg_ParseTuple(given, "siii", &target, &wanted.bits, &wanted.precision, &wanted.scale)) return false;
    if (!named(kTargets, target, wanted.target)) return false;
    const int bits = wanted.bits;
    if (wanted.target == Target::integer && bits != 8 && bits != 16 && bits != 32 && bits != 64) {
        return refused("no such width");
    }
    const bool fits = wanted.scale >= 0 && wanted.scale <= wanted.precision && wanted.precision <= 38;
    return wanted.target != Target::decimal || (fits && wanted.precision > 0) || refused("no such decimal");
}

template <class Values>
PyObject* bytes_of(const Values& values) {
    return PyBytes_FromStringAndSize(reinterpret_cast<const char*>(values.data()),
                                     static_cast<Py_ssize_t>(values.size() * sizeof(values[0])));
}

// One bit for each byte, the lowest first.
PyObject* bits_of(const std::vector<uint8_t>& bytes) {
    std::vector<uint8_t> bits((bytes.size() + 7) / 8, 0);
    for (size_t i = 0; i < bytes.size(); ++i) bits[i >> 3] |= static_cast<uint8_t>(bytes[i] << (i & 7));
    return bytes_of(bits);
}

PyObject* some_bits(const std::vector<uint8_t>& bytes, bool wanted) {
    if (!wanted) Py_RETURN_NONE;
    return bits_of(bytes);
}

PyObject* values_of(const Casts& casts, const Wanted& wanted) {
    switch (wanted.target) {
        case Target::boolean: return Py_BuildValue("(N)", bits_of(casts.flags));
        case Target::integer:
            return Py_BuildValue("(N)", wanted.bits == 64 ? bytes_of(casts.numbers) : bytes_of(casts.halves));
        case Target::float32: return Py_BuildValue("(N)", bytes_of(casts.singles));
        case Target::float64: return Py_BuildValue("(N)", bytes_of(casts.doubles));
        case Target::decimal: return Py_BuildValue("(N)", bytes_of(casts.decimals));
        case Target::date: return Py_BuildValue("(N)", bytes_of(casts.halves));
        case Target::time: case Target::local: case Target::instant:
            return Py_BuildValue("(N)", bytes_of(casts.numbers));
        case Target::string: case Target::json: case Target::parsed: case Target::bytes:
            return Py_BuildValue("(NN)", bytes_of(casts.ends), bytes_of(casts.chars));
    }
    return nullptr;
}

PyObject* cast(PyObject*, PyObject* arguments) {
    const char* name;
    PyObject *given, *given_wanted;
    Views views;
    Texts texts;
    Declared declared;
    Wanted wanted;
    if (!PyArg_ParseTuple(arguments, "OsO:cast", &given, &name, &given_wanted)) return nullptr;
    if (!named(kDeclared, name, declared) || !wanted_from(given_wanted, wanted)) return nullptr;
    if (!texts_from(given, views, texts)) return nullptr;
    Casts casts(declared, wanted);
    if (!unlocked([&] { casts.cast(texts); })) return nullptr;
    PyObject* const values = values_of(casts, wanted);
    if (values == nullptr) return nullptr;
    return Py_BuildValue("(NNN)", some_bits(casts.valid, casts.nulls > 0), some_bits(casts.left, casts.lefts > 0),
                         values);
}

PyMethodDef methods[] = {
    {"cast", cast, METH_VARARGS,
     "cast(texts, declared, (target, bits, precision, scale)) -> (validity, left, buffers)\n\n"
     "JSON values cast, as Arrow lays them out. `left` has a bit for each value that is null here because it is\n"
     "not plain. Gives the interpreter lock away."},
    {nullptr, nullptr, 0, nullptr},
};

PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_casts", "Columns of JSON values, cast.", -1,
                          methods, nullptr, nullptr, nullptr, nullptr};

}  // namespace

PyMODINIT_FUNC PyInit__casts() { return PyModule_Create(&definition); }
