// What functions that Python calls with arrays have in common.

#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>
#include <limits>
#include <new>
#include <stdexcept>

#include "texts.hpp"
#include "views.hpp"

namespace airberg {

inline bool refused(const char* problem) {
    PyErr_SetString(PyExc_ValueError, problem);
    return false;
}

inline std::nullptr_t refusal(const char* problem) {
    PyErr_SetString(PyExc_ValueError, problem);
    return nullptr;
}

inline bool readable_rows(Py_ssize_t rows, Py_ssize_t offset) {
    constexpr Py_ssize_t kMost = std::numeric_limits<Py_ssize_t>::max() / 64;
    return (rows >= 0 && offset >= 0 && rows < kMost && offset < kMost) || refused("no such number of rows");
}

inline bool enough_bits(const uint8_t* validity, size_t size, size_t end) {
    return validity == nullptr || size >= (end + 7) / 8 || refused("too few validity bits");
}

// `(rows, offset, large, validity, ends, chars)`
inline bool texts_from(PyObject* given, Views& views, Texts& texts) {
    Py_ssize_t rows, offset;
    int wide;
    PyObject *validity, *ends, *chars;
    if (!PyTuple_Check(given)) return refused("a tuple was expected");
    if (!PyArg_ParseTuple(given, "nnpOOO", &rows, &offset, &wide, &validity, &ends, &chars)) return false;
    if (!readable_rows(rows, offset)) return false;
    texts.rows = static_cast<size_t>(rows);
    texts.offset = static_cast<size_t>(offset);
    texts.wide = wide != 0;
    size_t validity_size = 0, ends_size = 0;
    if (!views.hold(validity, texts.validity, validity_size) || !views.hold(ends, texts.ends, ends_size) ||
        !views.hold(chars, texts.chars, texts.chars_size)) {
        return false;
    }
    const size_t end = texts.offset + texts.rows;
    if (!enough_bits(texts.validity, validity_size, end)) return false;
    return rows == 0 || ends_size >= (end + 1) * texts.end_size() || refused("too few ends");
}

// Bytes that are written to before Python sees them.
class Made {
  public:
    Made() = default;
    ~Made() { Py_XDECREF(object_); }
    Made(const Made&) = delete;
    Made& operator=(const Made&) = delete;

    bool make(size_t size) {
        object_ = PyBytes_FromStringAndSize(nullptr, static_cast<Py_ssize_t>(size));
        return object_ != nullptr;
    }
    uint8_t* data() { return reinterpret_cast<uint8_t*>(PyBytes_AsString(object_)); }
    PyObject* release() {
        PyObject* const object = object_;
        object_ = nullptr;
        return object;
    }

  private:
    PyObject* object_ = nullptr;
};

// Runs work without the interpreter lock; its errors become Python's.
template <class Work>
bool unlocked(Work work) {
    try {
        std::exception_ptr fault;
        Py_BEGIN_ALLOW_THREADS
        try {
            work();
        } catch (...) {
            fault = std::current_exception();
        }
        Py_END_ALLOW_THREADS
        if (fault) std::rethrow_exception(fault);
        return true;
    } catch (const std::bad_alloc&) {
        PyErr_NoMemory();
    } catch (const std::length_error& error) {
        PyErr_SetString(PyExc_OverflowError, error.what());
    } catch (const std::invalid_argument& error) {
        PyErr_SetString(PyExc_ValueError, error.what());
    } catch (const std::exception& error) {
        PyErr_SetString(PyExc_RuntimeError, error.what());
    }
    return false;
}

}  // namespace airberg
