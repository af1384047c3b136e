/* The node's common case, compiled: a turn of the event loop over plain sockets whose clients sent whole, unfragmented
 * text and binary messages. One recv, one call into Python, one send for each connection.
 *
 * It decides nothing else. Bytes that are not such a message (control frames, fragments, compressed or incomplete or
 * wrong frames, text that is not UTF-8) stop it, and go to `wire.Reader`, which knows the rules; so do TLS streams,
 * and sockets that are broken, full or writable. What is here is a subset of the rules there, never another set.
 *
 * Strangers' bytes are read through `data[position .. end)` alone, and each length is compared with what is left of it
 * before it is used.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

enum { FIN_TEXT = 0x81, FIN_BINARY = 0x82, MASKED = 0x80, SIZE = 0x7F };
enum { READ_BYTES = 65536, EVENTS = 512, CHUNK = 4, CHUNK_BYTES = 32768 };

static unsigned char buffer[READ_BYTES];
static int reading; /* the buffer is in use; a finalizer that turns the loop meanwhile gets Python's way of reading */
static PyObject *on_frames; /* the method's name */

/* -- Line: what a turn must know of a connection. `Connection` is a subclass. */

typedef struct {
    PyObject_HEAD
    int descriptor;         /* -1: gone */
    Py_ssize_t plain_limit; /* bytes of a message that may be read here; -1: Python reads */
    PyObject *unsent;       /* bytes that leave at the end of this chunk of the turn, or None */
} Line;

static PyObject *line_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    Line *line = (Line *)type->tp_alloc(type, 0);
    if (line) {
        line->descriptor = -1;
        line->plain_limit = -1;
    }
    return (PyObject *)line;
}

static void line_dealloc(PyObject *self)
{
    Py_CLEAR(((Line *)self)->unsent);
    Py_TYPE(self)->tp_free(self);
}

static PyMemberDef line_members[] = {
    {"descriptor", T_INT, offsetof(Line, descriptor), 0, NULL},
    {"plain_limit", T_PYSSIZET, offsetof(Line, plain_limit), 0, NULL},
    {"unsent", T_OBJECT, offsetof(Line, unsent), 0, NULL},
    {NULL},
};

static PyTypeObject LineType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "ringway.ws_server._fast.Line",
    .tp_basicsize = sizeof(Line),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .tp_new = line_new,
    .tp_dealloc = line_dealloc,
    .tp_members = line_members,
};

/* -- Frames */

/* Unmask into `to`; whether all of it is ASCII. */
static int unmask(unsigned char *to, const unsigned char *from, const unsigned char *key, size_t size)
{
    uint64_t mask, word, seen = 0;
    unsigned char rest = 0;
    size_t at = 0;
    memcpy(&mask, key, 4);
    memcpy((unsigned char *)&mask + 4, key, 4);
    for (; at + 8 <= size; at += 8) {
        memcpy(&word, from + at, 8);
        word ^= mask;
        seen |= word;
        memcpy(to + at, &word, 8);
    }
    for (; at < size; at++) {
        to[at] = from[at] ^ key[at & 3];
        rest |= to[at];
    }
    return !(seen & UINT64_C(0x8080808080808080)) && !(rest & 0x80);
}

/* 1, or 0 when it is not UTF-8; -1 with an exception set. Python's own strict decoder, so that there is one verdict. */
static int is_utf8(const char *text, Py_ssize_t size)
{
    PyObject *decoded = PyUnicode_DecodeUTF8(text, size, NULL);
    if (decoded) {
        Py_DECREF(decoded);
        return 1;
    }
    if (!PyErr_ExceptionMatches(PyExc_UnicodeDecodeError)) return -1;
    PyErr_Clear();
    return 0;
}

static int append(PyObject *out, int opcode, PyObject *payload)
{
    PyObject *kind = PyLong_FromLong(opcode), *message = kind ? PyTuple_Pack(2, kind, payload) : NULL;
    int failed = message ? PyList_Append(out, message) : -1;
    Py_XDECREF(kind);
    Py_XDECREF(message);
    return failed;
}

/* The size of the payload of the frame at `data`, of which `have` >= 6 bytes are here, and in `body` where it begins;
 * -1 when it is no whole message that may be taken here. */
static Py_ssize_t measure(const unsigned char *data, Py_ssize_t have, Py_ssize_t limit, Py_ssize_t *body)
{
    uint64_t size = data[1] & SIZE;
    if ((data[0] != FIN_TEXT && data[0] != FIN_BINARY) || !(data[1] & MASKED)) return -1;
    *body = 6;
    if (size == 126) {
        size = (uint64_t)data[2] << 8 | data[3];
        *body = 8;
        if (size < 126) return -1;
    } else if (size == 127) {
        if (have < 14) return -1;
        size = 0;
        for (int i = 2; i < 10; i++) size = size << 8 | data[i];
        *body = 14;
        if (size < 65536) return -1;
    }
    if (limit < 0 || size > (uint64_t)limit || have < *body || size > (uint64_t)(have - *body)) return -1;
    return (Py_ssize_t)size;
}

/* Append the messages at data[position .. end) to `out`, up to the first frame that is anything else. Where that
 * begins; -1 with an exception set. */
static Py_ssize_t parse(const unsigned char *data, Py_ssize_t position, Py_ssize_t end, Py_ssize_t limit, PyObject *out)
{
    while (end - position >= 6) {
        const unsigned char *frame = data + position;
        Py_ssize_t body, size = measure(frame, end - position, limit, &body);
        if (size < 0) break;
        PyObject *payload = PyBytes_FromStringAndSize(NULL, size);
        if (!payload) return -1;
        char *text = PyBytes_AS_STRING(payload);
        int good = unmask((unsigned char *)text, frame + body, frame + body - 4, size) || frame[0] != FIN_TEXT;
        if (!good) good = is_utf8(text, size);
        if (good == 1 && append(out, frame[0] & 0x0F, payload)) good = -1;
        Py_DECREF(payload);
        if (good < 0) return -1;
        if (!good) break;
        position += body + size;
    }
    return position;
}

PyDoc_STRVAR(take_doc, "take(data, position, limit, out) -> int: see ringway.ws_server.wire.take");

static PyObject *take(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    if (count != 4 || !PyBytes_Check(args[0]) || !PyList_Check(args[3])) {
        PyErr_SetString(PyExc_TypeError, "take(data: bytes, position: int, limit: int, out: list)");
        return NULL;
    }
    Py_ssize_t position = PyLong_AsSsize_t(args[1]), limit = PyLong_AsSsize_t(args[2]);
    if (PyErr_Occurred()) return NULL;
    if (position < 0) {
        PyErr_SetString(PyExc_ValueError, "position is negative");
        return NULL;
    }
    position = parse((unsigned char *)PyBytes_AS_STRING(args[0]), position, PyBytes_GET_SIZE(args[0]), limit, args[3]);
    return position < 0 ? NULL : PyLong_FromSsize_t(position);
}

/* -- A turn */

typedef struct {
    int descriptor, error; /* error: an errno, or 0 with no messages: the stream's end */
    uint32_t events;
    PyObject *owner;          /* a strong reference; NULL: nothing to do */
    PyObject *messages, *rest; /* rest: what `parse` left, or None */
} Ready;

typedef struct {
    PyObject *owners, *other, *failed;
    uint64_t bytes_in, bytes_out;
} Turn;

static int is_line(PyObject *owner)
{
    return owner && PyObject_TypeCheck(owner, &LineType);
}

/* Read and parse for one connection. Exceptions are left set. */
static void receive(Turn *turn, Line *line, Ready *ready)
{
    ssize_t got = recv(line->descriptor, buffer, READ_BYTES, MSG_DONTWAIT);
    if (got <= 0) {
        ready->error = got < 0 ? errno : 0;
        if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) Py_CLEAR(ready->owner);
        return;
    }
    turn->bytes_in += got;
    reading = 1;
    PyObject *messages = PyList_New(0);
    Py_ssize_t used = messages ? parse(buffer, 0, got, line->plain_limit, messages) : -1;
    if (used >= 0 && used < got) ready->rest = PyBytes_FromStringAndSize((char *)buffer + used, got - used);
    reading = 0;
    if (PyErr_Occurred()) Py_CLEAR(messages);
    ready->messages = messages;
}

/* Report the exception that is set; -1 when it must end the turn. */
static int report(Turn *turn, Ready *ready)
{
    if (!PyErr_ExceptionMatches(PyExc_Exception)) return -1;
    PyObject *type, *error, *trace;
    PyErr_Fetch(&type, &error, &trace);
    PyErr_NormalizeException(&type, &error, &trace);
    if (trace) PyException_SetTraceback(error, trace);
    PyObject *done = PyObject_CallFunction(turn->failed, "iOO", ready->descriptor, ready->owner, error);
    Py_XDECREF(type);
    Py_XDECREF(error);
    Py_XDECREF(trace);
    Py_XDECREF(done);
    return done ? 0 : -1;
}

/* Look at one event, and read where that can be done here. */
static int begin(Turn *turn, const struct epoll_event *event, Ready *ready)
{
    int descriptor = event->data.fd;
    memset(ready, 0, sizeof *ready);
    if (descriptor < 0 || descriptor >= PyList_GET_SIZE(turn->owners)) return 0;
    PyObject *owner = PyList_GET_ITEM(turn->owners, descriptor);
    if (owner == Py_None) return 0;
    Py_INCREF(owner);
    ready->owner = owner;
    ready->descriptor = descriptor;
    ready->events = event->events;
    if (reading || !is_line(owner)) return 0;
    Line *line = (Line *)owner;
    if (line->plain_limit < 0 || line->descriptor != descriptor || event->events & EPOLLOUT) return 0;
    ready->events = 0;
    receive(turn, line, ready);
    if (!PyErr_Occurred()) return 0;
    ready->error = ENOMEM; /* what was read is lost, so the stream cannot go on; it did not end by itself */
    return report(turn, ready);
}

/* Call the owner. */
static int tell(Turn *turn, Ready *ready)
{
    PyObject *done;
    if (!ready->owner) return 0;
    if (ready->events) {
        done = PyObject_CallFunction(turn->other, "iI", ready->descriptor, (unsigned)ready->events);
    } else if (ready->messages) {
        PyObject *args[] = {ready->owner, ready->messages, ready->rest ? ready->rest : Py_None};
        done = PyObject_VectorcallMethod(on_frames, args, 3, NULL);
    } else {
        done = PyObject_CallMethod(ready->owner, "on_broken", "i", ready->error);
    }
    Py_XDECREF(done);
    return done ? 0 : report(turn, ready);
}

/* Send what the owner has to say, and give back what is held. */
static int finish(Turn *turn, Ready *ready)
{
    int result = 0;
    Line *line = (Line *)ready->owner;
    if (is_line(ready->owner) && line->descriptor >= 0 && line->unsent && PyBytes_CheckExact(line->unsent)) {
        PyObject *data = line->unsent;
        line->unsent = NULL;
        ssize_t sent = send(line->descriptor, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0) sent = errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR ? 0 : -errno;
        if (sent > 0) turn->bytes_out += sent;
        if (sent < PyBytes_GET_SIZE(data)) {
            PyObject *done = PyObject_CallMethod(ready->owner, "on_unsent", "On", data, (Py_ssize_t)sent);
            if (!done) result = report(turn, ready);
            Py_XDECREF(done);
        }
        Py_DECREF(data);
    }
    Py_CLEAR(ready->owner);
    Py_CLEAR(ready->messages);
    Py_CLEAR(ready->rest);
    return result;
}

PyDoc_STRVAR(turn_doc, "turn(epoll, owners, other, failed) -> (bytes in, bytes out): see ringway.ws_server.poller");

static PyObject *turn(PyObject *module, PyObject *args)
{
    Turn turn = {0};
    Ready ready[CHUNK];
    struct epoll_event events[EVENTS];
    int epoll, result = 0;
    if (!PyArg_ParseTuple(args, "iO!OO", &epoll, &PyList_Type, &turn.owners, &turn.other, &turn.failed)) return NULL;
    int count = epoll_wait(epoll, events, EVENTS, 0);
    if (count < 0 && errno != EINTR) return PyErr_SetFromErrno(PyExc_OSError);
    /* Reading, telling and sending, each for some connections together, keeps the kernel's code in the processor's
     * caches while it is wanted; with many bytes it would drive the bytes out. An error that ends the turn still lets
     * each phase give back what it holds. */
    for (int start = 0; start < count && !result;) {
        uint64_t enough = turn.bytes_in + CHUNK_BYTES;
        int size = 0;
        while (size < CHUNK && start < count && turn.bytes_in < enough && !result) {
            result = begin(&turn, &events[start++], &ready[size++]);
        }
        for (int i = 0; i < size && !result; i++) result = tell(&turn, &ready[i]);
        PyObject *type, *error, *trace;
        PyErr_Fetch(&type, &error, &trace);
        for (int i = 0; i < size; i++) {
            if (!finish(&turn, &ready[i])) continue;
            result = -1;
            if (type) PyErr_WriteUnraisable(NULL);
            else PyErr_Fetch(&type, &error, &trace);
        }
        PyErr_Restore(type, error, trace);
    }
    return result ? NULL : Py_BuildValue("KK", turn.bytes_in, turn.bytes_out);
}

static PyMethodDef methods[] = {
    {"take", (PyCFunction)(void (*)(void))take, METH_FASTCALL, take_doc},
    {"turn", turn, METH_VARARGS, turn_doc},
    {NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "_fast", .m_doc = "The node's common case, compiled.", .m_size = -1,
    .m_methods = methods,
};

PyMODINIT_FUNC PyInit__fast(void)
{
    on_frames = PyUnicode_InternFromString("on_frames");
    if (!on_frames || PyType_Ready(&LineType)) return NULL;
    PyObject *module = PyModule_Create(&definition);
    if (module && PyModule_AddObjectRef(module, "Line", (PyObject *)&LineType)) Py_CLEAR(module);
    return module;
}
