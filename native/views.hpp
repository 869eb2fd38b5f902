// Memory that Python lends for the time of a call.

#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace airberg {

class Views {
  public:
    Views() = default;
    ~Views() {
        for (Py_buffer& view : views_) PyBuffer_Release(&view);
    }
    Views(const Views&) = delete;
    Views& operator=(const Views&) = delete;

    // The memory of an object, none of `None`; sets an error when the object lends none.
    bool hold(PyObject* given, const uint8_t*& data, size_t& size) {
        if (given == Py_None) return true;
        Py_buffer view;
        if (PyObject_GetBuffer(given, &view, PyBUF_SIMPLE) != 0) return false;
        views_.push_back(view);
        data = static_cast<const uint8_t*>(view.buf);
        size = static_cast<size_t>(view.len);
        return true;
    }

  private:
    std::vector<Py_buffer> views_;
};

}  // namespace airberg
