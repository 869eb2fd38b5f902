// The Python module `airberg.columns._records`: reads RECORD lines into columns. See `airberg/columns/native.py`.
//
// Uses the stable ABI of CPython 3.11, so that one build serves every later version.

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>

#include <algorithm>
#include <exception>
#include <iterator>
#include <new>
#include <vector>

#include "records.hpp"
#include "uuids.hpp"

namespace {

using airberg::Column;
using airberg::Cursor;
using airberg::Deferred;
using airberg::Kind;
using airberg::Outcome;
using airberg::Records;
using airberg::Stream;

struct Reader {
    PyObject_HEAD
    Records* records;
    bool busy;  // inside `feed`, which gives the interpreter lock away
};

// In the order of `Kind`.
constexpr const char* kKinds[] = {"boolean", "int64", "float64", "string", "date", "timestamp", "json", "object",
                                  "list"};

// ---- from Python -------------------------------------------------------------------------------------------

bool text_from(PyObject* value, std::string& out) {
    Py_ssize_t size;
    const char* const text = PyUnicode_AsUTF8AndSize(value, &size);
    if (text == nullptr) return false;
    out.assign(text, static_cast<size_t>(size));
    return true;
}

// The item of a tuple, borrowed; sets an error and gives nullptr when there is none.
PyObject* item(PyObject* tuple, Py_ssize_t index) {
    return PyTuple_Check(tuple) ? PyTuple_GetItem(tuple, index)
                                : (PyErr_SetString(PyExc_TypeError, "a tuple was expected"), nullptr);
}

// A column from `(name, kind, members)`.
bool column_from(PyObject* shape, std::string& name, Column& column) {
    PyObject* const given_name = item(shape, 0);
    PyObject* const given_kind = given_name ? item(shape, 1) : nullptr;
    PyObject* const members = given_kind ? item(shape, 2) : nullptr;
    std::string kind;
    if (members == nullptr || !text_from(given_name, name) || !text_from(given_kind, kind)) return false;
    const auto found = std::find(std::begin(kKinds), std::end(kKinds), kind);
    if (found == std::end(kKinds) || !PyTuple_Check(members)) {
        PyErr_Format(PyExc_ValueError, "no kind of column: %s", kind.c_str());
        return false;
    }
    column.kind = static_cast<Kind>(found - std::begin(kKinds));
    const Py_ssize_t count = PyTuple_Size(members);
    if (column.kind == Kind::list && count != 1) {
        PyErr_SetString(PyExc_ValueError, "a list has one element");
        return false;
    }
    std::vector<std::string> names(static_cast<size_t>(count));
    column.children.resize(static_cast<size_t>(count));
    for (Py_ssize_t i = 0; i < count; ++i) {
        const size_t at = static_cast<size_t>(i);
        if (!column_from(PyTuple_GetItem(members, i), names[at], column.children[at])) return false;
    }
    column.name_members(std::move(names));
    return true;
}

bool stream_from(PyObject* shape, Stream& stream) {
    PyObject* const space = item(shape, 0);
    PyObject* const name = space ? item(shape, 1) : nullptr;
    PyObject* const members = name ? item(shape, 2) : nullptr;
    PyObject* const keeps_text = members ? item(shape, 3) : nullptr;
    if (keeps_text == nullptr || !text_from(space, stream.space) || !text_from(name, stream.name)) return false;
    stream.keeps_text = PyObject_IsTrue(keeps_text) == 1;
    PyObject* const data = Py_BuildValue("(ssO)", "", "object", members);
    if (data == nullptr) return false;
    std::string ignored;
    const bool made = column_from(data, ignored, stream.data);
    Py_DECREF(data);
    return made;
}

// ---- to Python ---------------------------------------------------------------------------------------------

template <class Values>
PyObject* bytes_of(const Values& values) {
    return PyBytes_FromStringAndSize(reinterpret_cast<const char*>(values.data()),
                                     static_cast<Py_ssize_t>(values.size() * sizeof(values[0])));
}

// One bit for each byte, the lowest first, as Arrow has them.
std::vector<uint8_t> packed(const std::vector<uint8_t>& bytes) {
    std::vector<uint8_t> bits((bytes.size() + 7) / 8, 0);
    for (size_t i = 0; i < bytes.size(); ++i) bits[i >> 3] |= static_cast<uint8_t>(bytes[i] << (i & 7));
    return bits;
}

PyObject* deferred_of(const Deferred& deferred) {
    if (deferred.places.empty()) Py_RETURN_NONE;
    return Py_BuildValue("(NNNN)", bytes_of(deferred.places), bytes_of(deferred.rows), bytes_of(deferred.ends),
                         bytes_of(deferred.texts));
}

PyObject* column_of(const Column& column);

PyObject* columns_of(const std::vector<Column>& columns) {
    PyObject* const made = PyTuple_New(static_cast<Py_ssize_t>(columns.size()));
    for (size_t i = 0; made != nullptr && i < columns.size(); ++i) {
        PyObject* const column = column_of(columns[i]);
        if (column == nullptr || PyTuple_SetItem(made, static_cast<Py_ssize_t>(i), column) != 0) {
            Py_DECREF(made);
            return nullptr;
        }
    }
    return made;
}

PyObject* values_of(const Column& column) {
    switch (column.kind) {
        case Kind::boolean: return Py_BuildValue("(N)", bytes_of(packed(column.flags)));
        case Kind::int64: case Kind::timestamp: return Py_BuildValue("(N)", bytes_of(column.numbers));
        case Kind::float64: return Py_BuildValue("(N)", bytes_of(column.doubles));
        case Kind::date: return Py_BuildValue("(N)", bytes_of(column.days));
        case Kind::string: case Kind::json:
            return Py_BuildValue("(NN)", bytes_of(column.ends), bytes_of(column.chars));
        case Kind::list: return Py_BuildValue("(N)", bytes_of(column.ends));
        case Kind::object: return PyTuple_New(0);
    }
    return PyTuple_New(0);
}

// `(length, nulls, validity, buffers, children, deferred)`
PyObject* column_of(const Column& column) {
    int64_t nulls = 0;
    for (const uint8_t is_valid : column.valid) nulls += is_valid == 0;
    PyObject* validity = Py_None;
    if (nulls > 0) {
        validity = bytes_of(packed(column.valid));
    } else {
        Py_INCREF(validity);
    }
    return Py_BuildValue("(LLNNNN)", static_cast<long long>(column.size()), static_cast<long long>(nulls),
                         validity, values_of(column), columns_of(column.children),
                         deferred_of(column.deferred));
}

// ---- the type ----------------------------------------------------------------------------------------------

template <class Work>
PyObject* guarded(Work work) {
    try {
        return work();
    } catch (const std::bad_alloc&) {
        return PyErr_NoMemory();
    } catch (const std::exception& error) {
        PyErr_SetString(PyExc_RuntimeError, error.what());
        return nullptr;
    }
}

Stream* stream_at(Reader* self, PyObject* index) {
    const Py_ssize_t at = PyLong_AsSsize_t(index);
    if (at == -1 && PyErr_Occurred()) return nullptr;
    if (self->busy || self->records == nullptr) {
        PyErr_SetString(PyExc_RuntimeError, "the reader is in use");
        return nullptr;
    }
    if (at < 0 || static_cast<size_t>(at) >= self->records->streams.size()) {
        PyErr_SetString(PyExc_IndexError, "no such stream");
        return nullptr;
    }
    return &self->records->streams[static_cast<size_t>(at)];
}

PyObject* reader_feed(PyObject* object, PyObject* arguments) {
    Reader* const self = reinterpret_cast<Reader*>(object);
    PyObject* block;
    Py_ssize_t position;
    int ours = 0;
    if (!PyArg_ParseTuple(arguments, "Sn|p:feed", &block, &position, &ours)) return nullptr;
    char* text;
    Py_ssize_t size;
    if (PyBytes_AsStringAndSize(block, &text, &size) != 0) return nullptr;
    if (position < 0 || position > size) return PyErr_Format(PyExc_ValueError, "no such position");
    if (self->busy || self->records == nullptr) return PyErr_Format(PyExc_RuntimeError, "the reader is in use");
    return guarded([&]() -> PyObject* {
        self->busy = true;
        const char* p = text + position;
        const char* const end = text + size;
        long long lines = 0;
        Outcome outcome = Outcome::taken;
        std::exception_ptr fault;
        Py_BEGIN_ALLOW_THREADS
        try {
            while (p < end) {
                Cursor cursor{p, end, ours != 0};
                outcome = self->records->read_line(cursor);
                if (outcome != Outcome::taken) break;
                p = cursor.at < end ? cursor.at + 1 : end;
                ++lines;
            }
        } catch (...) {
            fault = std::current_exception();
        }
        Py_END_ALLOW_THREADS
        self->busy = false;
        if (fault) std::rethrow_exception(fault);
        return Py_BuildValue("(nLi)", static_cast<Py_ssize_t>(p - text), lines, static_cast<int>(outcome));
    });
}

PyObject* reader_size(PyObject* object, PyObject* index) {
    Stream* const stream = stream_at(reinterpret_cast<Reader*>(object), index);
    if (stream == nullptr) return nullptr;
    return Py_BuildValue("(LL)", static_cast<long long>(stream->rows()), static_cast<long long>(stream->bytes));
}

PyObject* reader_take(PyObject* object, PyObject* index) {
    Stream* const stream = stream_at(reinterpret_cast<Reader*>(object), index);
    if (stream == nullptr) return nullptr;
    return guarded([&]() -> PyObject* {
        PyObject* const taken = Py_BuildValue(
            "(LNNNNN)", static_cast<long long>(stream->rows()), bytes_of(stream->emitted),
            columns_of(stream->data.children), deferred_of(stream->meta), bytes_of(stream->ends),
            bytes_of(stream->texts));
        if (taken != nullptr) stream->clear();
        return taken;
    });
}

int reader_init(PyObject* object, PyObject* arguments, PyObject* keywords) {
    static const char* names[] = {"streams", nullptr};
    Reader* const self = reinterpret_cast<Reader*>(object);
    PyObject* shapes;
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "O:Reader", const_cast<char**>(names), &shapes)) {
        return -1;
    }
    if (!PyTuple_Check(shapes)) {
        PyErr_SetString(PyExc_TypeError, "a tuple of streams was expected");
        return -1;
    }
    try {
        delete self->records;
        self->records = new Records();
        self->records->streams.resize(static_cast<size_t>(PyTuple_Size(shapes)));
        for (size_t i = 0; i < self->records->streams.size(); ++i) {
            PyObject* const shape = PyTuple_GetItem(shapes, static_cast<Py_ssize_t>(i));
            if (!stream_from(shape, self->records->streams[i])) return -1;
        }
    } catch (const std::bad_alloc&) {
        PyErr_NoMemory();
        return -1;
    }
    return 0;
}

void reader_free(PyObject* object) {
    PyTypeObject* const type = Py_TYPE(object);
    delete reinterpret_cast<Reader*>(object)->records;
    reinterpret_cast<freefunc>(PyType_GetSlot(type, Py_tp_free))(object);
    Py_DECREF(type);
}

PyMethodDef reader_methods[] = {
    {"feed", reader_feed, METH_VARARGS,
     "feed(block, position, ours=False) -> (position, lines, outcome)\n\n"
     "Read lines from `position` on until one is not taken. Outcome: 0 the block has ended, 1 the line at the\n"
     "position is not a RECORD, 2 it may be one but is to be read by Python. Gives the interpreter lock away."},
    {"size", reader_size, METH_O, "size(stream) -> (rows, bytes of JSON)"},
    {"take", reader_take, METH_O,
     "take(stream) -> (rows, emitted, columns, meta, ends, texts), and begin anew"},
    {nullptr, nullptr, 0, nullptr},
};

PyType_Slot reader_slots[] = {
    {Py_tp_doc, const_cast<char*>("Reads the RECORD lines of some streams into columns.")},
    {Py_tp_init, reinterpret_cast<void*>(reader_init)},
    {Py_tp_dealloc, reinterpret_cast<void*>(reader_free)},
    {Py_tp_methods, reader_methods},
    {0, nullptr},
};

PyType_Spec reader_spec = {"airberg.columns._records.Reader", sizeof(Reader), 0, Py_TPFLAGS_DEFAULT, reader_slots};

PyObject* uuid7(PyObject*, PyObject* arguments) {
    const char* random;
    Py_ssize_t size;
    unsigned long long milliseconds;
    if (!PyArg_ParseTuple(arguments, "Ky#:uuid7", &milliseconds, &random, &size)) return nullptr;
    const Py_ssize_t count = size / airberg::kUuidRandomBytes;
    PyObject* const made = PyBytes_FromStringAndSize(nullptr, count * airberg::kUuidLength);
    if (made == nullptr) return nullptr;
    char* out = PyBytes_AsString(made);
    const unsigned char* from = reinterpret_cast<const unsigned char*>(random);
    for (Py_ssize_t i = 0; i < count; ++i) {
        airberg::write_uuid7(out + i * airberg::kUuidLength, milliseconds, from + i * airberg::kUuidRandomBytes);
    }
    return made;
}

PyMethodDef module_methods[] = {
    {"uuid7", uuid7, METH_VARARGS,
     "uuid7(milliseconds, random) -> bytes\n\nA UUID of version 7 for each ten random bytes, one behind the other."},
    {nullptr, nullptr, 0, nullptr},
};

PyModuleDef module_definition = {PyModuleDef_HEAD_INIT, "_records", "RECORD lines into columns.", -1,
                                 module_methods, nullptr, nullptr, nullptr, nullptr};

}  // namespace

PyMODINIT_FUNC PyInit__records() {
    PyObject* const module = PyModule_Create(&module_definition);
    if (module == nullptr) return nullptr;
    PyObject* const type = PyType_FromSpec(&reader_spec);
    if (type == nullptr || PyModule_AddObject(module, "Reader", type) != 0) {
        Py_XDECREF(type);
        Py_DECREF(module);
        return nullptr;
    }
    return module;
}
