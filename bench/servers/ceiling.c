/* What this machine can do at most: a WebSocket echo of one thread and one epoll set, with one recv and one send for
 * what a connection has to say. It unmasks and echoes; it checks nothing, answers no ping and has no queue (a client
 * that does not read is dropped), so it is no server to use, but no server can be faster in the same system calls.
 *
 * Build: cc -O2 -o ceiling ceiling.c -lcrypto     Run: ceiling PORT
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <openssl/evp.h>
#include <openssl/sha.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { READ_SIZE = 1 << 17, EVENTS = 512 };
static const char GUID[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

struct conn {
    int fd, open;          /* open: the upgrade is answered */
    size_t kept, cap;      /* the beginning of an incomplete frame or request */
    unsigned char *rest;
};
static unsigned char in[READ_SIZE], out[READ_SIZE];

static void drop(struct conn *c) {
    close(c->fd);
    free(c->rest);
    free(c);
}

static int say(struct conn *c, const void *data, size_t n) {
    return send(c->fd, data, n, MSG_NOSIGNAL) == (ssize_t)n;
}

static void keep(struct conn *c, size_t from, size_t to) {
    c->kept = to - from;
    if (c->kept > c->cap) c->rest = realloc(c->rest, c->cap = c->kept * 2);
    if (c->kept) memcpy(c->rest, in + from, c->kept);
}

/* The request's answer; how many bytes of input it was, 0 when it is not all here, -1 when it is none. */
static ssize_t upgrade(struct conn *c, size_t n) {
    unsigned char *end = memmem(in, n, "\r\n\r\n", 4), digest[SHA_DIGEST_LENGTH];
    char both[128], accept[64], answer[256];
    if (!end) return n < 8192 ? 0 : -1;
    *end = 0;
    char *key = strcasestr((char *)in, "\r\nsec-websocket-key:");
    if (!key) return -1;
    key += sizeof "\r\nsec-websocket-key:" - 1;
    key += strspn(key, " ");
    int size = snprintf(both, sizeof both, "%.*s%s", (int)strcspn(key, " \r"), key, GUID);
    if (size >= (int)sizeof both) return -1;
    SHA1((unsigned char *)both, size, digest);
    EVP_EncodeBlock((unsigned char *)accept, digest, sizeof digest);
    size = snprintf(answer, sizeof answer, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                    "Connection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n", accept);
    c->open = 1;
    return say(c, answer, size) ? end + 4 - in : -1;
}

/* Echo the complete frames of in[at..n); where the first incomplete one begins, or -1 to end the connection. */
static ssize_t echo(struct conn *c, size_t at, size_t n) {
    size_t made = 0;
    while (n - at >= 6) {
        unsigned char *f = in + at, *key, *to;
        size_t size = f[1] & 127, head = 2;
        if (size == 126) {
            size = f[2] << 8 | f[3];
            head = 4;
        } else if (size == 127) {
            if (n - at < 14) break;
            size = 0;
            for (int i = 2; i < 10; i++) size = size << 8 | f[i];
            head = 10;
        }
        if (size > READ_SIZE - 14 || (f[0] & 15) >= 8) return -1;
        if (n - at < head + 4 + size) break;
        memcpy(out + made, f, head);
        out[made + 1] &= 127;
        to = out + made + head;
        key = f + head;
        for (size_t i = 0; i < size; i++) to[i] = key[4 + i] ^ key[i & 3];
        made += head + size;
        at += head + 4 + size;
    }
    return !made || say(c, out, made) ? (ssize_t)at : -1;
}

static void readable(struct conn *c) {
    size_t n = c->kept;
    ssize_t at = 0;
    if (n) memcpy(in, c->rest, n);
    ssize_t got = recv(c->fd, in + n, READ_SIZE - n, 0);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) {
        drop(c);
        return;
    }
    n += got;
    if (!c->open) at = upgrade(c, n);
    if (at >= 0 && c->open) at = echo(c, at, n);
    if (at < 0) drop(c);
    else keep(c, at, n);
}

static void accepted(int ep, int listener) {
    int fd, one = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        struct conn *c = calloc(1, sizeof *c);
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        c->fd = fd;
        epoll_ctl(ep, EPOLL_CTL_ADD, fd, &event);
    }
}

int main(int argc, char **argv) {
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), ep = epoll_create1(0), one = 1;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(argc > 1 ? atoi(argv[1]) : 0)};
    struct epoll_event events[EVENTS] = {{.events = EPOLLIN}};
    inet_pton(AF_INET, "127.0.0.1", &at.sin_addr);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&at, sizeof at) || listen(listener, 4096)) {
        perror("ceiling");
        return 1;
    }
    epoll_ctl(ep, EPOLL_CTL_ADD, listener, events);
    for (;;) {
        int n = epoll_wait(ep, events, EVENTS, -1);
        for (int i = 0; i < n; i++) {
            if (events[i].data.ptr) readable(events[i].data.ptr);
            else accepted(ep, listener);
        }
    }
}
