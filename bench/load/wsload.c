/* A WebSocket load generator: one thread, one epoll loop, nothing allocated per message.
 *
 * It exists so that the generator is never the limit of a measurement: it prints its own share of a core
 * (`cpu`), and a run in which that is near 1 says nothing about the server.
 *
 * Modes:
 *   echo       every connection keeps --inflight messages of --size bytes in flight
 *   fanout     connection 0 sends one message; the round ends when every connection got one
 *   handshake  open, wait for 101 and --swallow frames, reset; --connections at a time
 *   idle       open all, answer pings for --seconds; with --steps a,b,c: open so many, say `ready`, and wait for a line
 *              on standard input before the next step
 *   relay      connection i on --port sends to connection i on --port2, --inflight messages each
 *
 * --message, --hello: %i stands for the connection's (the pair's) number, %n for a number that is never used twice,
 * %u for line %i of the file that --uids names.
 * --hello may be given twice: the first is sent after the first swallowed frame, the second after the second.
 * --paths2 names the file of request paths for --port2.
 * --watch names processes (pid,pid): `server_cpu_s` is the processor time that they used while it measured.
 * The next messages of a connection whose answers came together leave in one write; --cork 0: each in a write of its
 * own, which makes this generator the limit for servers that are as fast as it is.
 * What is in flight when a measurement ends is read before the connections are closed (at most 0.3 s).
 *
 * Traffic goes to loopback only: an address that does not start with 127. is refused.
 * Build: cc -O2 -o wsload wsload.c -lssl -lcrypto
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum phase { CONNECTING, TLS_HANDSHAKE, UPGRADING, SWALLOWING, RUNNING, DEAD };
enum { READ_SIZE = 1 << 18, HISTOGRAM_US = 4000000, MAX_INFLIGHT = 64,
       OPENING = 200 };              /* at a time: no server's backlog or limit of handshakes is the subject here */

struct conn {
    int fd, phase, swallowed, fanout_got, number, port;
    struct conn *peer;            /* relay: the other end of the pair */
    SSL *ssl;
    char *in, *out;               /* partial input; output that the socket did not take */
    size_t in_len, in_cap, out_len, out_cap;
    uint64_t sent_at[MAX_INFLIGHT];
    unsigned head, tail;
    const char *path;
};

static struct {
    const char *mode, *host, *url_file, *url_file2, *uid_file, *path, *hello[2], *prefix, *suffix, *message, *watch, *steps;
    int port, port2, connections, inflight, size, swallow, tls, rate, cork;
    double seconds, warmup;
} opt = {.mode = "echo", .host = "127.0.0.1", .path = "/", .prefix = "", .suffix = "", .connections = 100,
         .inflight = 1, .size = 64, .cork = 1, .seconds = 5.0, .warmup = 0.5};

struct path_list { char **items; int n, next; };
static int ep, alive, ready, n_conns;
static struct path_list paths, paths2, uids;
static struct conn *conns, *corked;         /* corked: what it sends leaves in one piece, when its input is dealt with */
static SSL_CTX *tls_ctx;
static char scratch[READ_SIZE];
static unsigned char *message; static size_t message_len;       /* one framed, masked message */
static uint32_t *histogram; static uint64_t overflow, counted, handshakes, failed, closed, pings, fanouts;
static uint64_t round_started, next_number, outstanding; static int round_left, running, measuring, relaying;

static uint64_t now_us(void) {
    struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}
static double cpu_s(void) {
    struct rusage r; getrusage(RUSAGE_SELF, &r);
    return r.ru_utime.tv_sec + r.ru_utime.tv_usec / 1e6 + r.ru_stime.tv_sec + r.ru_stime.tv_usec / 1e6;
}
/* Processor seconds of the processes of --watch, by their own clocks (see clock_getcpuclockid(3)). */
static double watched_s(void) {
    double total = 0;
    for (const char *p = opt.watch; p && *p; p += strcspn(p, ","), p += *p == ',') {
        clockid_t clock; struct timespec t;
        if (!clock_getcpuclockid(atoi(p), &clock) && !clock_gettime(clock, &t)) total += t.tv_sec + t.tv_nsec / 1e9;
    }
    return total;
}
static void die(const char *format, ...) {
    va_list args; va_start(args, format); fprintf(stderr, "wsload: "); vfprintf(stderr, format, args);
    fprintf(stderr, "\n"); exit(2);
}
static void record(uint64_t us) {
    counted++;
    if (us < HISTOGRAM_US) histogram[us]++; else overflow++;
}
static double percentile(double p) {
    uint64_t total = overflow, seen = 0, i;
    for (i = 0; i < HISTOGRAM_US; i++) total += histogram[i];
    for (i = 0; i < HISTOGRAM_US; i++) { seen += histogram[i]; if (seen > p * total) return i / 1000.0; }
    return HISTOGRAM_US / 1000.0;
}

/* A frame as a client must send it: masked (RFC 6455, 5.3); the same key for all, worked out once. */
static unsigned char *frame(int opcode, const char *payload, size_t n, size_t *length) {
    unsigned char *f = malloc(n + 14), key[4] = {0x12, 0x34, 0x56, 0x78}; size_t h = 2, i;
    f[0] = 0x80 | opcode;
    if (n < 126) f[1] = 0x80 | n;
    else if (n < 65536) { f[1] = 0x80 | 126; f[2] = n >> 8; f[3] = n; h = 4; }
    else { f[1] = 0x80 | 127; for (i = 0; i < 8; i++) f[2 + i] = (uint64_t)n >> (56 - 8 * i); h = 10; }
    memcpy(f + h, key, 4); h += 4;
    for (i = 0; i < n; i++) f[h + i] = payload[i] ^ key[i & 3];
    *length = h + n;
    return f;
}
/* The template with %i and %n filled in, framed. */
static unsigned char *filled(const char *template, int number, size_t *length) {
    static char text[1 << 16];
    size_t n = 0;
    for (const char *t = template; *t && n < sizeof text - 300; t++) {
        if (t[0] == '%' && t[1] == 'i') n += sprintf(text + n, "%d", number), t++;
        else if (t[0] == '%' && t[1] == 'u' && uids.n) n += sprintf(text + n, "%.256s", uids.items[number % uids.n]), t++;
        else if (t[0] == '%' && t[1] == 'n') n += sprintf(text + n, "%llu", (unsigned long long)next_number++), t++;
        else text[n++] = *t;
    }
    return frame(1, text, n, length);
}
static void build_message(void) {
    size_t before = strlen(opt.prefix), after = strlen(opt.suffix), n = before + opt.size + after;
    char *text = malloc(n + 1);
    memcpy(text, opt.prefix, before); memset(text + before, 'x', opt.size); memcpy(text + before + opt.size, opt.suffix, after);
    message = frame(1, text, n, &message_len);
    free(text);
}

static void interest(struct conn *c, int writing) {
    struct epoll_event e = {.events = EPOLLIN | (writing ? EPOLLOUT : 0), .data.ptr = c};
    epoll_ctl(ep, EPOLL_CTL_MOD, c->fd, &e);
}
static void drop(struct conn *c) {
    if (c->phase == DEAD) return;
    if (c->phase >= SWALLOWING) alive--;
    if (c->phase == RUNNING) ready--;
    c->phase = DEAD;
    if (c->ssl) { SSL_free(c->ssl); c->ssl = NULL; }
    struct linger reset = {1, 0};
    setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    close(c->fd);
    c->in_len = c->out_len = 0;
}
static ssize_t raw_write(struct conn *c, const void *data, size_t n) {
    if (!c->ssl) return send(c->fd, data, n, MSG_NOSIGNAL);
    int r = SSL_write(c->ssl, data, n);
    if (r > 0) return r;
    errno = SSL_get_error(c->ssl, r) == SSL_ERROR_WANT_WRITE || SSL_get_error(c->ssl, r) == SSL_ERROR_WANT_READ ? EAGAIN : EPIPE;
    return -1;
}
static ssize_t raw_read(struct conn *c, void *data, size_t n) {
    if (!c->ssl) return recv(c->fd, data, n, 0);
    int r = SSL_read(c->ssl, data, n);
    if (r > 0) return r;
    int why = SSL_get_error(c->ssl, r);
    if (why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE) { errno = EAGAIN; return -1; }
    return 0;
}
static void append(struct conn *c, const void *data, size_t n) {
    if (c->out_len + n > c->out_cap) c->out = realloc(c->out, c->out_cap = (c->out_len + n) * 2);
    memcpy(c->out + c->out_len, data, n);
    c->out_len += n;
}
static void put(struct conn *c, const void *data, size_t n) {
    ssize_t done = 0;
    if (c == corked || c->out_len) { append(c, data, n); return; }
    done = raw_write(c, data, n);
    if (done < 0) { if (errno != EAGAIN) { failed++; drop(c); return; } done = 0; }
    if ((size_t)done == n) return;
    append(c, (const char *)data + done, n - done);
    interest(c, 1);
}
static void flush(struct conn *c) {
    if (c->out_len) {
        ssize_t done = raw_write(c, c->out, c->out_len);
        if (done < 0) { if (errno != EAGAIN) { failed++; drop(c); } return; }
        memmove(c->out, c->out + done, c->out_len -= done);
    }
    if (!c->out_len) interest(c, 0);
}
static void send_message(struct conn *c) {
    c->sent_at[c->head++ % MAX_INFLIGHT] = now_us(); outstanding++;
    if (!opt.message) { put(c, message, message_len); return; }
    size_t n; unsigned char *f = filled(opt.message, c->number, &n);
    put(c, f, n); free(f);
}

static void open_conn(struct conn *c) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(c->port)};
    inet_pton(AF_INET, opt.host, &to.sin_addr);
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (c->fd < 0) die("socket: %s", strerror(errno));
    int one = 1; setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    c->phase = CONNECTING; c->swallowed = c->fanout_got = 0; c->head = c->tail = 0;
    if (connect(c->fd, (struct sockaddr *)&to, sizeof to) < 0 && errno != EINPROGRESS) { failed++; close(c->fd); c->phase = DEAD; return; }
    struct epoll_event e = {.events = EPOLLIN | EPOLLOUT, .data.ptr = c};
    epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &e);
}
static void upgrade(struct conn *c) {
    char request[8192];
    struct path_list *list = c->port == opt.port ? &paths : &paths2;
    const char *path = list->n ? list->items[list->next++ % list->n] : opt.path;
    int n = snprintf(request, sizeof request,
        "GET %s HTTP/1.1\r\nHost: %s:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n", path, opt.host, opt.port);
    c->phase = UPGRADING;
    interest(c, 0);
    put(c, request, n);
}
static void handshake_done(struct conn *c) {
    handshakes++;
    drop(c);
    if (running) open_conn(c);
}
static void settle(struct conn *c) {          /* the upgrade is answered and the greeting is over */
    if (c->swallowed < opt.swallow) return;
    if (!strcmp(opt.mode, "handshake")) { handshake_done(c); return; }
    c->phase = RUNNING; ready++;
}
static void start_round(void) {
    round_started = now_us(); round_left = opt.connections;
    for (int i = 0; i < opt.connections; i++) conns[i].fanout_got = 0;
    put(&conns[0], message, message_len);
}
static void on_data(struct conn *c) {
    if (c->phase == SWALLOWING) {
        const char *hello = c->swallowed < 2 ? opt.hello[c->swallowed] : NULL;
        c->swallowed++;
        if (hello) { size_t n; unsigned char *f = filled(hello, c->number, &n); put(c, f, n); free(f); }
        settle(c);
        return;
    }
    if (!strcmp(opt.mode, "fanout")) {
        if (measuring) counted++;
        if (!c->fanout_got) { c->fanout_got = 1; if (--round_left == 0) {
            if (measuring) { uint64_t us = now_us() - round_started; counted--; record(us); fanouts++; }
            if (running) start_round(); } }
        return;
    }
    if (relaying) { if (c->port != opt.port2) return; c = c->peer; }      /* the sender's own answers do not count */
    if (c->head == c->tail) return;
    uint64_t sent = c->sent_at[c->tail++ % MAX_INFLIGHT]; outstanding--;
    if (measuring) record(now_us() - sent);
    if (running) send_message(c);
}
static size_t parse(struct conn *c, unsigned char *p, size_t n) {
    size_t used = 0;
    while (c->phase != DEAD && c->phase >= SWALLOWING) {
        if (n - used < 2) break;
        unsigned char *f = p + used; uint64_t length = f[1] & 127; size_t h = 2;
        if (length == 126) { if (n - used < 4) break; length = f[2] << 8 | f[3]; h = 4; }
        else if (length == 127) { if (n - used < 10) break; length = 0; for (int i = 2; i < 10; i++) length = length << 8 | f[i]; h = 10; }
        if (n - used < h + length) break;
        used += h + length;
        int opcode = f[0] & 15;
        if (opcode == 9) { size_t m; unsigned char *pong = frame(10, (char *)f + h, length, &m); pings++; put(c, pong, m); free(pong); }
        else if (opcode == 8) { closed++; drop(c); }
        else if (opcode < 3 && (f[0] & 128) && !(relaying && length < 8 && c->phase == RUNNING)) on_data(c);
    }
    return used;
}
static size_t consume(struct conn *c, char *data, size_t n) {
    size_t used = 0;
    if (c->phase == UPGRADING) {
        char *end = memmem(data, n, "\r\n\r\n", 4);
        if (!end) return 0;
        if (n < 12 || memcmp(data + 9, "101", 3)) { if (!failed++) fprintf(stderr, "wsload: refused: %.120s\n", data); drop(c); return n; }
        used = end + 4 - data;
        c->phase = SWALLOWING; alive++;
        settle(c);
    }
    return c->phase == DEAD || c->phase < SWALLOWING ? n : used + parse(c, (unsigned char *)data + used, n - used);
}
static void keep(struct conn *c, const char *rest, size_t n) {
    if (n > c->in_cap) c->in = realloc(c->in, c->in_cap = n * 2);
    memcpy(c->in, rest, n);
    c->in_len = n;
}
static void uncork(int was_waiting) {         /* was_waiting: for the socket, which says when it takes more */
    struct conn *c = corked;
    corked = NULL;
    if (was_waiting || c->phase == DEAD || !c->out_len) return;
    ssize_t done = raw_write(c, c->out, c->out_len);
    if (done < 0) { if (errno != EAGAIN) { failed++; drop(c); return; } done = 0; }
    memmove(c->out, c->out + done, c->out_len -= done);
    if (c->out_len) interest(c, 1);
}
static void readable(struct conn *c) {
    for (;;) {
        size_t had = c->in_len;
        if (had) memcpy(scratch, c->in, had);
        ssize_t got = raw_read(c, scratch + had, READ_SIZE - had);
        if (got < 0 && errno == EAGAIN) return;
        if (got <= 0) { if (c->phase == RUNNING || c->phase == SWALLOWING) closed++; else failed++; drop(c); return; }
        int fd = c->fd, was_waiting = c->out_len > 0;
        c->in_len = 0;
        corked = opt.cork ? c : NULL;
        size_t n = had + got, used = consume(c, scratch, n);
        if (corked) uncork(was_waiting);
        if (c->phase == DEAD || c->fd != fd || c->phase == CONNECTING) return;
        if (used < n) keep(c, scratch + used, n - used);
        if (!c->ssl) return;                       /* OpenSSL may hold more than the socket shows */
    }
}
static void connected(struct conn *c) {
    int error = 0; socklen_t n = sizeof error;
    getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &n);
    if (error) { failed++; drop(c); return; }
    if (!opt.tls) { upgrade(c); return; }
    c->ssl = SSL_new(tls_ctx); SSL_set_fd(c->ssl, c->fd); SSL_set_connect_state(c->ssl); c->phase = TLS_HANDSHAKE;
}
static void tls_step(struct conn *c) {
    int r = SSL_do_handshake(c->ssl);
    if (r == 1) { upgrade(c); return; }
    int why = SSL_get_error(c->ssl, r);
    if (why == SSL_ERROR_WANT_READ) interest(c, 0);
    else if (why == SSL_ERROR_WANT_WRITE) interest(c, 1);
    else { failed++; drop(c); }
}
static void turn(int wait_ms) {
    struct epoll_event events[1024];
    int n = epoll_wait(ep, events, 1024, wait_ms);
    for (int i = 0; i < n; i++) {
        struct conn *c = events[i].data.ptr;
        if (c->phase == DEAD) continue;
        if (c->phase == CONNECTING) { connected(c); continue; }
        if (c->phase == TLS_HANDSHAKE) { tls_step(c); continue; }
        if (events[i].events & EPOLLOUT) flush(c);
        if (c->phase != DEAD && events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) readable(c);
    }
}
static void turn_for(double seconds) {
    uint64_t end = now_us() + seconds * 1e6, now;
    while ((now = now_us()) < end) turn((end - now) / 1000 + 1 < 50 ? (end - now) / 1000 + 1 : 50);
}

static void read_paths(const char *file, struct path_list *list) {
    if (!file) return;
    FILE *f = fopen(file, "r"); char *line = NULL; size_t cap = 0; ssize_t n;
    if (!f) die("%s: %s", file, strerror(errno));
    while ((n = getline(&line, &cap, f)) > 0) {
        line[strcspn(line, "\r\n")] = 0;
        list->items = realloc(list->items, (list->n + 1) * sizeof *list->items); list->items[list->n++] = strdup(line);
    }
    free(line); fclose(f);
}
static void arguments(int argc, char **argv) {
    opt.mode = argc > 1 ? argv[1] : "echo";
    for (int i = 2; i + 1 < argc; i += 2) {
        const char *k = argv[i], *v = argv[i + 1];
        if (!strcmp(k, "--host")) opt.host = v; else if (!strcmp(k, "--port")) opt.port = atoi(v);
        else if (!strcmp(k, "--path")) opt.path = v; else if (!strcmp(k, "--paths")) opt.url_file = v;
        else if (!strcmp(k, "--uids")) opt.uid_file = v;
        else if (!strcmp(k, "--connections")) opt.connections = atoi(v); else if (!strcmp(k, "--inflight")) opt.inflight = atoi(v);
        else if (!strcmp(k, "--size")) opt.size = atoi(v); else if (!strcmp(k, "--seconds")) opt.seconds = atof(v);
        else if (!strcmp(k, "--warmup")) opt.warmup = atof(v); else if (!strcmp(k, "--swallow")) opt.swallow = atoi(v);
        else if (!strcmp(k, "--hello")) opt.hello[opt.hello[0] != NULL] = v; else if (!strcmp(k, "--message")) opt.message = v;
        else if (!strcmp(k, "--port2")) opt.port2 = atoi(v); else if (!strcmp(k, "--paths2")) opt.url_file2 = v; else if (!strcmp(k, "--prefix")) opt.prefix = v;
        else if (!strcmp(k, "--suffix")) opt.suffix = v; else if (!strcmp(k, "--tls")) opt.tls = atoi(v);
        else if (!strcmp(k, "--cork")) opt.cork = atoi(v);
        else if (!strcmp(k, "--watch")) opt.watch = v; else if (!strcmp(k, "--steps")) opt.steps = v;
        else if (!strcmp(k, "--rate")) opt.rate = atoi(v); else die("unknown option %s", k);
    }
    if (strncmp(opt.host, "127.", 4)) die("--host %s: must be a loopback address", opt.host);
    if (!opt.port || opt.connections < 1 || opt.inflight < 1 || opt.inflight > MAX_INFLIGHT || opt.seconds > 600) die("a value is out of range");
}
/* Open connections [from, to). */
static void open_all(int from, int to) {
    uint64_t deadline = now_us() + 30000000;
    for (int i = from; i < to; i++) {
        open_conn(&conns[i]);
        if (opt.rate) turn_for(1.0 / opt.rate); else if (i % 64 == 63) turn(0);
        while (i + 1 - ready - (int)(failed + closed) >= OPENING && now_us() < deadline) turn(50);
    }
    while (ready + (int)failed + (int)closed < to && now_us() < deadline) turn(50);
    if (ready < to) die("only %d of %d connections are open (%lu refused, %lu closed)", ready, to, failed, closed);
    printf("ready %d\n", ready); fflush(stdout);
}
static int told(void) {                       /* whether a line waits on standard input, or its end */
    struct pollfd input = {.fd = 0, .events = POLLIN};
    char line[64];
    return poll(&input, 1, 0) > 0 && read(0, line, sizeof line) >= 0;
}
static void open_in_steps(void) {
    int from = 0;
    for (const char *p = opt.steps; *p; p += strcspn(p, ","), p += *p == ',') {
        int to = atoi(p);
        if (to <= from || to > n_conns) die("--steps %s: must rise, up to --connections", opt.steps);
        open_all(from, to);
        from = to;
        uint64_t deadline = now_us() + opt.seconds * 1e6;
        while (!told()) { if (now_us() > deadline) die("nobody said to go on"); turn(20); }
    }
}
int main(int argc, char **argv) {
    arguments(argc, argv);
    relaying = !strcmp(opt.mode, "relay");
    n_conns = opt.connections * (relaying ? 2 : 1);
    ep = epoll_create1(0); conns = calloc(n_conns, sizeof *conns); histogram = calloc(HISTOGRAM_US, sizeof *histogram);
    if (opt.tls) { tls_ctx = SSL_CTX_new(TLS_client_method()); SSL_CTX_set_mode(tls_ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER); }
    for (int i = 0; i < n_conns; i++) {
        conns[i].number = i % opt.connections;
        conns[i].port = i < opt.connections ? opt.port : opt.port2;
        conns[i].peer = &conns[(i + opt.connections) % n_conns];
    }
    next_number = now_us() * 1000;                 /* a later run does not use an earlier one's numbers */
    read_paths(opt.url_file, &paths); read_paths(opt.url_file2, &paths2); read_paths(opt.uid_file, &uids); build_message();
    int handshake_mode = !strcmp(opt.mode, "handshake");
    running = 1;
    if (handshake_mode) for (int i = 0; i < opt.connections; i++) open_conn(&conns[i]);
    else if (opt.steps) { open_in_steps(); return 0; }
    else open_all(0, n_conns);
    if (!strcmp(opt.mode, "echo") || relaying) for (int i = 0; i < opt.connections; i++) for (int k = 0; k < opt.inflight; k++) send_message(&conns[i]);
    if (!strcmp(opt.mode, "fanout")) { turn_for(0.3); start_round(); }   /* a server may answer 101 before it adds one to its list */
    turn_for(opt.warmup);
    double cpu = cpu_s(), server_cpu = watched_s(); uint64_t start = now_us(), handshakes_before = handshakes;
    measuring = 1; turn_for(opt.seconds); measuring = running = 0;
    double seconds = (now_us() - start) / 1e6;
    cpu = (cpu_s() - cpu) / seconds; server_cpu = watched_s() - server_cpu;
    for (int i = 0; (outstanding || round_left) && i < 30 && alive; i++) turn_for(0.01);
    uint64_t events = handshake_mode ? handshakes - handshakes_before : counted;
    printf("{\"mode\":\"%s\",\"count\":%lu,\"seconds\":%.3f,\"per_s\":%.1f,\"p50_ms\":%.3f,\"p99_ms\":%.3f,\"cpu\":%.3f,"
           "\"open\":%d,\"failed\":%lu,\"closed\":%lu,\"pings\":%lu,\"fanouts\":%lu,\"server_cpu_s\":%.4f}\n",
           opt.mode, events, seconds, events / seconds, percentile(0.5), percentile(0.99), cpu, alive, failed, closed, pings, fanouts, server_cpu);
    return 0;
}
