// The Python module `airberg.lake._keys`: which rows of a table may have one of some keys. See
// `airberg/lake/keyfilter.py`. Uses the stable ABI of CPython 3.11.

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>

#include <limits>
#include <new>
#include <string_view>
#include <vector>

#include "calls.hpp"
#include "keyset.hpp"

namespace {

using airberg::KeyColumn;
using airberg::KeySet;
using airberg::refused;
using airberg::Layout;

struct Filter {
    PyObject_HEAD
    KeySet* set;
};

// Columns from Python, and the buffers that are held for them.
class Columns {
  public:
    // From a tuple of `(layout, width, offset, validity, values, ends)`; sets an error when it is none.
    bool read(PyObject* given, size_t rows) {
        if (!PyTuple_Check(given)) {
            PyErr_SetString(PyExc_TypeError, "a tuple of columns was expected");
            return false;
        }
        const Py_ssize_t count = PyTuple_Size(given);
        for (Py_ssize_t i = 0; i < count; ++i) {
            if (!read_column(PyTuple_GetItem(given, i), rows)) return false;
        }
        return true;
    }

    std::vector<KeyColumn> columns;

  private:
    bool read_column(PyObject* given, size_t rows) {
        const char* layout;
        Py_ssize_t width, offset;
        PyObject *validity, *values, *ends;
        if (!PyArg_ParseTuple(given, "snnOOO", &layout, &width, &offset, &validity, &values, &ends)) return false;
        if (width < 0 || offset < 0) return refused("a negative size");
        KeyColumn column{};
        if (!layout_from(layout, column.layout)) return refused("no such layout");
        column.width = static_cast<size_t>(width);
        column.offset = static_cast<size_t>(offset);
        size_t validity_size = 0, ends_size = 0;
        if (!views_.hold(validity, column.validity, validity_size) ||
            !views_.hold(values, column.values, column.values_size) ||
            !views_.hold(ends, column.ends, ends_size)) {
            return false;
        }
        const size_t end = column.offset + rows;
        if (!airberg::enough_bits(column.validity, validity_size, end)) return false;
        const size_t ends_of = column.layout == Layout::text32 ? 4 : column.layout == Layout::text64 ? 8 : 0;
        if (rows > 0 && ends_of > 0 && ends_size < (end + 1) * ends_of) return refused("too few ends");
        if (rows > 0 && ends_of == 0 && column.values_size < needed(column, end)) return refused("too few values");
        columns.push_back(column);
        return true;
    }

    static size_t needed(const KeyColumn& column, size_t end) {
        switch (column.layout) {
            case Layout::bits: return (end + 7) / 8;
            case Layout::float32: return end * 4;
            case Layout::float64: return end * 8;
            default: return end * column.width;
        }
    }

    static bool layout_from(std::string_view name, Layout& layout) {
        constexpr std::string_view names[] = {"bits", "fixed", "float32", "float64", "text32", "text64"};
        for (size_t i = 0; i < std::size(names); ++i) {
            if (names[i] == name) {
                layout = static_cast<Layout>(i);
                return true;
            }
        }
        return false;
    }

    airberg::Views views_;
};

// Runs `work` on columns without the interpreter lock; its errors become Python's.
template <class Work>
bool with_columns(PyObject* arguments, const char* format, Work work) {
    Py_ssize_t rows;
    PyObject* given;
    if (!PyArg_ParseTuple(arguments, format, &rows, &given)) return false;
    if (rows < 0 || rows > std::numeric_limits<int32_t>::max()) return refused("no such number of rows");
    try {
        Columns columns;
        if (!columns.read(given, static_cast<size_t>(rows))) return false;
        return airberg::unlocked([&] { work(columns.columns, static_cast<size_t>(rows)); });
    } catch (const std::bad_alloc&) {
        PyErr_NoMemory();
    }
    return false;
}

PyObject* filter_add(PyObject* object, PyObject* arguments) {
    KeySet* const set = reinterpret_cast<Filter*>(object)->set;
    const bool done = with_columns(arguments, "nO:add", [set](const std::vector<KeyColumn>& columns, size_t rows) {
        set->add(columns, rows);
    });
    if (!done) return nullptr;
    Py_RETURN_NONE;
}

PyObject* filter_pick(PyObject* object, PyObject* arguments) {
    const KeySet* const set = reinterpret_cast<Filter*>(object)->set;
    std::vector<int32_t> picked;
    const bool done = with_columns(arguments, "nO:pick", [&](const std::vector<KeyColumn>& columns, size_t rows) {
        set->pick(columns, rows, picked);
    });
    if (!done) return nullptr;
    return PyBytes_FromStringAndSize(reinterpret_cast<const char*>(picked.data()),
                                     static_cast<Py_ssize_t>(picked.size() * sizeof(int32_t)));
}

PyObject* filter_size(PyObject* object, PyObject*) {
    return PyLong_FromSize_t(reinterpret_cast<Filter*>(object)->set->size());
}

int filter_init(PyObject* object, PyObject* arguments, PyObject* keywords) {
    static const char* names[] = {"seed", nullptr};
    unsigned long long seed;
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "K:KeyFilter", const_cast<char**>(names), &seed)) return -1;
    Filter* const self = reinterpret_cast<Filter*>(object);
    try {
        KeySet* const made = new KeySet(seed);
        delete self->set;
        self->set = made;
    } catch (const std::bad_alloc&) {
        PyErr_NoMemory();
        return -1;
    }
    return 0;
}

void filter_free(PyObject* object) {
    PyTypeObject* const type = Py_TYPE(object);
    delete reinterpret_cast<Filter*>(object)->set;
    reinterpret_cast<freefunc>(PyType_GetSlot(type, Py_tp_free))(object);
    Py_DECREF(type);
}

PyMethodDef filter_methods[] = {
    {"add", filter_add, METH_VARARGS, "add(rows, columns)\n\nTake keys. Gives the interpreter lock away."},
    {"pick", filter_pick, METH_VARARGS,
     "pick(rows, columns) -> bytes\n\nIndexes (32 bits each) of the rows whose key may be among those taken. Gives\n"
     "the interpreter lock away; several threads may pick at once."},
    {"size", filter_size, METH_NOARGS, "size() -> int\n\nHow many different hashes were taken."},
    {nullptr, nullptr, 0, nullptr},
};

PyType_Slot filter_slots[] = {
    {Py_tp_doc, const_cast<char*>("A set of keys, by their hashes under a seed.")},
    {Py_tp_init, reinterpret_cast<void*>(filter_init)},
    {Py_tp_dealloc, reinterpret_cast<void*>(filter_free)},
    {Py_tp_methods, filter_methods},
    {0, nullptr},
};

PyType_Spec filter_spec = {"airberg.lake._keys.KeyFilter", sizeof(Filter), 0, Py_TPFLAGS_DEFAULT, filter_slots};

PyModuleDef module_definition = {PyModuleDef_HEAD_INIT, "_keys", "Keys of rows.", -1,
                                 nullptr, nullptr, nullptr, nullptr, nullptr};

}  // namespace

PyMODINIT_FUNC PyInit__keys() {
    PyObject* const module = PyModule_Create(&module_definition);
    if (module == nullptr) return nullptr;
    PyObject* const type = PyType_FromSpec(&filter_spec);
    if (type == nullptr || PyModule_AddObject(module, "KeyFilter", type) != 0) {
        Py_XDECREF(type);
        Py_DECREF(module);
        return nullptr;
    }
    return module;
}
