/* The media of many calls in one thread: paced RTP or SRTP out, kernel-timed statistics in.
 *
 * Loaded by wire.py. Signalling is somebody else's: a stream is a socket, an address and keys.
 * Sound comes in spurts with silence between. What is measured of the answer is the time from the
 * first packet of a spurt, as it was sent, to the first packet of its echo, as the kernel got it.
 * What is neither RTP nor RTCP (STUN, DTLS) is handed to `slow_fd`, its stream's number first.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <math.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define SPACING_BINS 10000 /* of 0.1 ms */
#define LATENCY_BINS 30000
#define LATE_BINS 10000
#define TAG 10

typedef struct {
    uint64_t sent, received, lost, duplicated, reordered, rejected, spurts_sent, spurts_heard, marked;
    uint64_t cpu_ns;
    uint32_t spacing[SPACING_BINS], latency[LATENCY_BINS], late[LATE_BINS];
} totals_t;

/* AES-128 in counter mode and HMAC-SHA1-80: RFC 3711 as SDES and DTLS agree on it by default. */

static uint8_t sbox[256];
static uint32_t T0[256], T1[256], T2[256], T3[256];

static uint8_t mul(uint8_t a, uint8_t b) {
    uint8_t r = 0;
    for (; b; b >>= 1, a = a << 1 ^ (a & 128 ? 27 : 0)) if (b & 1) r ^= a;
    return r;
}

static void aes_tables(void) {
    if (sbox[0]) return;
    for (int i = 0; i < 256; i++) {
        uint8_t inv = 0;
        for (int j = 1; i && j < 256; j++) if (mul(i, j) == 1) { inv = j; break; }
        uint8_t s = 0x63;
        for (int k = 0; k < 5; k++) s ^= (uint8_t)(inv << k | inv >> (8 - k));
        sbox[i] = s;
        uint32_t t = (uint32_t)mul(s, 2) << 24 | s << 16 | s << 8 | mul(s, 3);
        T0[i] = t; T1[i] = t >> 8 | t << 24; T2[i] = t >> 16 | t << 16; T3[i] = t >> 24 | t << 8;
    }
}

typedef struct { uint32_t k[44]; } aes_t;

static uint32_t be32(const uint8_t *p) { return (uint32_t)p[0] << 24 | p[1] << 16 | p[2] << 8 | p[3]; }
static void put32(uint8_t *p, uint32_t v) { p[0] = v >> 24; p[1] = v >> 16; p[2] = v >> 8; p[3] = v; }

static void aes_key(aes_t *a, const uint8_t *key) {
    uint8_t rcon = 1;
    for (int i = 0; i < 4; i++) a->k[i] = be32(key + 4 * i);
    for (int i = 4; i < 44; i++) {
        uint32_t t = a->k[i - 1];
        if (i % 4 == 0) {
            t = t << 8 | t >> 24;
            t = (uint32_t)sbox[t >> 24] << 24 | sbox[t >> 16 & 255] << 16 | sbox[t >> 8 & 255] << 8 | sbox[t & 255];
            t ^= (uint32_t)rcon << 24;
            rcon = mul(rcon, 2);
        }
        a->k[i] = a->k[i - 4] ^ t;
    }
}

static void aes_block(const aes_t *a, const uint8_t *in, uint8_t *out) {
    uint32_t s[4], t[4];
    const uint32_t *k = a->k;
    for (int i = 0; i < 4; i++) s[i] = be32(in + 4 * i) ^ k[i];
    for (int r = 1; r < 10; r++) {
        k += 4;
        for (int i = 0; i < 4; i++)
            t[i] = T0[s[i] >> 24] ^ T1[s[(i + 1) & 3] >> 16 & 255] ^ T2[s[(i + 2) & 3] >> 8 & 255] ^ T3[s[(i + 3) & 3] & 255] ^ k[i];
        memcpy(s, t, sizeof s);
    }
    k += 4;
    for (int i = 0; i < 4; i++)
        put32(out + 4 * i, ((uint32_t)sbox[s[i] >> 24] << 24 | sbox[s[(i + 1) & 3] >> 16 & 255] << 16 | sbox[s[(i + 2) & 3] >> 8 & 255] << 8 | sbox[s[(i + 3) & 3] & 255]) ^ k[i]);
}

static void aes_ctr(const aes_t *a, const uint8_t iv[16], uint8_t *data, size_t n) {
    uint8_t ctr[16], ks[16];
    memcpy(ctr, iv, 16);
    for (size_t at = 0, block = 0; at < n; at += 16, block++) {
        ctr[14] = iv[14] ^ block >> 8; ctr[15] = iv[15] ^ block;
        aes_block(a, ctr, ks);
        for (size_t i = 0; i < 16 && at + i < n; i++) data[at + i] ^= ks[i];
    }
}

static void sha1_block(uint32_t h[5], const uint8_t *p) {
    uint32_t w[80], a = h[0], b = h[1], c = h[2], d = h[3], e = h[4];
    for (int i = 0; i < 16; i++) w[i] = be32(p + 4 * i);
    for (int i = 16; i < 80; i++) { uint32_t x = w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16]; w[i] = x << 1 | x >> 31; }
#define ROUND(from, to, f, k) \
    for (int i = from; i < to; i++) { uint32_t t = (a << 5 | a >> 27) + (f) + e + k + w[i]; e = d; d = c; c = b << 30 | b >> 2; b = a; a = t; }
    ROUND(0, 20, (b & c) | (~b & d), 0x5a827999)
    ROUND(20, 40, b ^ c ^ d, 0x6ed9eba1)
    ROUND(40, 60, (b & c) | (b & d) | (c & d), 0x8f1bbcdc)
    ROUND(60, 80, b ^ c ^ d, 0xca62c1d6)
    h[0] += a; h[1] += b; h[2] += c; h[3] += d; h[4] += e;
}

static const uint32_t SHA1_START[5] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};

/* `h` has taken 64 bytes already. */
static void sha1_rest(uint32_t h[5], const uint8_t *data, size_t n, uint8_t out[20]) {
    uint8_t last[128] = {0};
    size_t whole = n / 64 * 64, rest = n - whole, pad = rest < 56 ? 64 : 128;
    for (size_t i = 0; i < whole; i += 64) sha1_block(h, data + i);
    memcpy(last, data + whole, rest);
    last[rest] = 0x80;
    put32(last + pad - 4, (uint32_t)((n + 64) * 8));
    for (size_t i = 0; i < pad; i += 64) sha1_block(h, last + i);
    for (int i = 0; i < 5; i++) put32(out + 4 * i, h[i]);
}

typedef struct { aes_t aes; uint8_t salt[16]; uint32_t inner[5], outer[5]; uint32_t roc; uint16_t top; int begun; } srtp_t;

static void srtp_key(srtp_t *s, const uint8_t *master) {
    aes_t m;
    uint8_t iv[16], auth[64] = {0}, key[16] = {0};
    aes_key(&m, master);
    memset(s, 0, sizeof *s);
    for (int label = 0; label < 3; label++) {
        uint8_t *to = label == 0 ? key : label == 1 ? auth : s->salt;
        memset(iv, 0, 16);
        memcpy(iv, master + 16, 14);
        iv[7] ^= label;
        aes_ctr(&m, iv, to, label == 0 ? 16 : label == 1 ? 20 : 14);
    }
    aes_key(&s->aes, key);
    for (int i = 0; i < 64; i++) auth[i] ^= 0x36;
    memcpy(s->inner, SHA1_START, 20); sha1_block(s->inner, auth);
    for (int i = 0; i < 64; i++) auth[i] ^= 0x36 ^ 0x5c;
    memcpy(s->outer, SHA1_START, 20); sha1_block(s->outer, auth);
}

static void srtp_crypt(srtp_t *s, uint8_t *packet, size_t n, size_t head, uint32_t roc) {
    uint8_t iv[16];
    memcpy(iv, s->salt, 16);
    for (int i = 0; i < 4; i++) { iv[4 + i] ^= packet[8 + i]; iv[8 + i] ^= roc >> (24 - 8 * i); }
    iv[12] ^= packet[2]; iv[13] ^= packet[3];
    aes_ctr(&s->aes, iv, packet + head, n - head);
}

/* Room for 4 bytes after the packet is needed. */
static void srtp_tag(srtp_t *s, uint8_t *packet, size_t n, uint32_t roc, uint8_t out[20]) {
    uint32_t h[5];
    put32(packet + n, roc);
    memcpy(h, s->inner, 20);
    uint8_t digest[20];
    sha1_rest(h, packet, n + 4, digest);
    memcpy(h, s->outer, 20);
    sha1_rest(h, digest, 20, out);
}

static size_t protect(srtp_t *s, uint8_t *packet, size_t n) {
    uint8_t tag[20];
    uint16_t seq = packet[2] << 8 | packet[3];
    if (s->begun && seq < s->top) s->roc++;
    s->begun = 1; s->top = seq;
    srtp_crypt(s, packet, n, 12, s->roc);
    srtp_tag(s, packet, n, s->roc, tag);
    memcpy(packet + n, tag, TAG);
    return n + TAG;
}

static size_t header_size(const uint8_t *p, size_t n) {
    size_t head = 12 + 4 * (p[0] & 15);
    if (p[0] & 16 && head + 4 <= n) head += 4 + 4 * (p[head + 2] << 8 | p[head + 3]);
    return head;
}

static size_t unprotect(srtp_t *s, uint8_t *packet, size_t n) {
    uint8_t tag[20], got[TAG];
    if (n < 12 + TAG) return 0;
    n -= TAG;
    uint16_t seq = packet[2] << 8 | packet[3];
    uint32_t roc = s->roc;
    if (!s->begun) { s->begun = 1; s->top = seq; }
    int32_t ahead = (int16_t)(seq - s->top);
    if (ahead > 0 && seq < s->top) roc++;
    if (ahead < 0 && seq > s->top) roc--;
    memcpy(got, packet + n, TAG);
    srtp_tag(s, packet, n, roc, tag);
    if (memcmp(tag, got, TAG)) return 0;
    size_t head = header_size(packet, n);
    if (head > n) return 0;
    srtp_crypt(s, packet, n, head, roc);
    if (ahead > 0) { s->top = seq; s->roc = roc; }
    return n;
}

/* Streams. */

typedef struct { const uint8_t *data; uint32_t size; } payload_t;

/* What every stream of a kind says, over and over: `count` payloads, sound in the first `loud`. */
typedef struct { payload_t *payloads; int count, loud, step, opus; double every; } script_t;

typedef struct {
    int fd, id, script, payload_type, counted, secure, live, at, quiet, short_packets, marked;
    struct sockaddr_in to;
    uint16_t seq, top;
    uint32_t ts, ssrc, heard;
    double due, spoke_at, last, usual, level;
    srtp_t tx, rx;
} stream_t;

typedef struct {
    stream_t **streams;
    int capacity, used, ep, timer, slow_fd, stop, scripts;
    script_t script[4];
    totals_t totals;
    pthread_mutex_t lock;
} wire_t;

static double now(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void count(uint32_t *bins, int n, double seconds) {
    int i = seconds < 0 ? 0 : (int)(seconds * 10000);
    bins[i < n ? i : n - 1]++;
}

wire_t *wire_new(int capacity, int slow_fd) {
    aes_tables();
    wire_t *w = calloc(1, sizeof *w);
    w->streams = calloc(capacity, sizeof *w->streams);
    w->capacity = capacity;
    w->slow_fd = slow_fd;
    w->ep = epoll_create1(EPOLL_CLOEXEC);
    w->timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    struct itimerspec every = {{0, 1000000}, {0, 1000000}};
    timerfd_settime(w->timer, 0, &every, NULL);
    pthread_mutex_init(&w->lock, NULL);
    return w;
}

/* `data` holds `count` payloads, one after the other, of `sizes`. */
int wire_script(wire_t *w, const uint8_t *data, const uint32_t *sizes, int n, int loud, int step, int opus) {
    script_t *s = &w->script[w->scripts];
    size_t whole = 0;
    for (int i = 0; i < n; i++) whole += sizes[i];
    uint8_t *kept = malloc(whole);
    memcpy(kept, data, whole);
    *s = (script_t){malloc(n * sizeof *s->payloads), n, loud, step, opus, 0.02};
    for (int i = 0; i < n; kept += sizes[i++]) s->payloads[i] = (payload_t){kept, sizes[i]};
    return w->scripts++;
}

/* Keys are 16 bytes and 14 of salt; NULL: plain RTP. `phase` in 0..1 is where in the script and
 * where between two packets of the others it begins. */
int wire_add(wire_t *w, int fd, const char *ip, int port, int script, int payload_type, int counted,
             double phase, uint32_t ssrc, const uint8_t *tx_key, const uint8_t *rx_key) {
    pthread_mutex_lock(&w->lock);
    int id = 0;
    while (id < w->used && w->streams[id]) id++;
    if (id == w->capacity) { pthread_mutex_unlock(&w->lock); return -1; }
    if (id == w->used) w->used++;
    stream_t *s = w->streams[id] = calloc(1, sizeof *s);
    *s = (stream_t){.fd = fd, .id = id, .script = script, .payload_type = payload_type, .counted = counted, .live = 1};
    s->to = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port)};
    inet_aton(ip, &s->to.sin_addr);
    s->seq = rand() & 0x7fff; s->ts = rand(); s->ssrc = ssrc ? ssrc : (uint32_t)rand() << 1 ^ rand();
    s->at = (int)(phase * w->script[script].count) % w->script[script].count;
    double t = now(CLOCK_MONOTONIC);
    s->due = (floor(t / 0.02) + 1) * 0.02 + fmod(phase * 977, 1) * 0.02;
    if (tx_key) { s->secure = 1; srtp_key(&s->tx, tx_key); srtp_key(&s->rx, rx_key); }
    int one = 1;
    setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &one, sizeof one);
    struct epoll_event e = {.events = EPOLLIN, .data.u32 = id};
    epoll_ctl(w->ep, EPOLL_CTL_ADD, fd, &e);
    pthread_mutex_unlock(&w->lock);
    return id;
}

/* The socket stays open. Returns how many packets the stream has got. */
uint32_t wire_remove(wire_t *w, int id) {
    pthread_mutex_lock(&w->lock);
    stream_t *s = w->streams[id];
    uint32_t heard = s->heard;
    epoll_ctl(w->ep, EPOLL_CTL_DEL, s->fd, NULL);
    free(s);
    w->streams[id] = NULL;
    pthread_mutex_unlock(&w->lock);
    return heard;
}

uint32_t wire_heard(wire_t *w, int id) {
    pthread_mutex_lock(&w->lock);
    uint32_t heard = w->streams[id]->heard;
    pthread_mutex_unlock(&w->lock);
    return heard;
}

static int pcmu_is_loud(const uint8_t *octets, size_t n) {
    for (size_t i = 0; i < n; i++) if ((~octets[i] & 0x7f) >= 0x50) return 1;
    return 0;
}

/* Lengths are all that is looked at. True silence takes three octets; where a server's resampler
 * makes a whisper of it, spurts begin with a packet about as long as usual after ones much shorter. */
static int opus_begins(stream_t *s, double size) {
    int begins = s->short_packets >= 5 ? size > 50 : s->level < 0.5 * s->usual && size > 0.8 * s->usual;
    s->short_packets = size <= 10 ? s->short_packets + 1 : 0;
    s->usual += (size - s->usual) / (s->heard < 200 ? s->heard : 200);
    s->level += (size - s->level) * 0.3;
    return begins;
}

static void hear(wire_t *w, stream_t *s, uint8_t *b, size_t n, double at) {
    static totals_t none;
    totals_t *t = s->counted ? &w->totals : &none;
    if (n < 12 || b[0] >> 6 != 2 || (b[1] >= 192 && b[1] <= 223)) return;
    if (s->secure && !(n = unprotect(&s->rx, b, n))) { t->rejected++; return; }
    if ((b[1] & 127) != s->payload_type) return;
    size_t head = header_size(b, n);
    if (head > n) return;
    script_t *script = &w->script[s->script];
    uint16_t seq = b[2] << 8 | b[3];
    int16_t step = seq - s->top;
    t->received++;
    if (s->heard++) {
        if (step == 0) { t->duplicated++; return; }
        if (step < 0) { t->reordered++; if (t->lost) t->lost--; return; }
        t->lost += step - 1;
        /* A marker begins a spurt, which may begin in another phase; aiortc marks every packet. */
        if (b[1] & 128 && !s->marked) t->marked++;
        else if (s->counted) count(t->spacing, SPACING_BINS, at - s->last);
    }
    s->top = seq;
    s->last = at;
    s->marked = b[1] >> 7;
    int loud = script->opus ? opus_begins(s, n - head) : pcmu_is_loud(b + head, n - head);
    if (!loud) { s->quiet++; return; }
    if (s->quiet >= 5 && s->spoke_at) {
        t->spurts_heard++;
        if (s->counted) count(t->latency, LATENCY_BINS, at - s->spoke_at);
        s->spoke_at = 0;
    }
    s->quiet = 0;
}

static void receive(wire_t *w, stream_t *s) {
    uint8_t b[4 + 2048 + 8], control[256];
    for (;;) {
        struct iovec v = {b + 4, 2048};
        struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
        ssize_t n = recvmsg(s->fd, &m, MSG_DONTWAIT);
        if (n < 0) { if (errno == ECONNREFUSED) continue; return; }
        if (n && (b[4] < 128 || b[4] > 191)) {
            memcpy(b, &s->id, 4);
            if (w->slow_fd >= 0 && send(w->slow_fd, b, n + 4, MSG_DONTWAIT) < 0) {}
            continue;
        }
        double at = 0;
        for (struct cmsghdr *h = CMSG_FIRSTHDR(&m); h; h = CMSG_NXTHDR(&m, h))
            if (h->cmsg_type == SCM_TIMESTAMPNS) {
                struct timespec *t = (void *)CMSG_DATA(h);
                at = t->tv_sec + t->tv_nsec / 1e9;
            }
        hear(w, s, b + 4, n, at ? at : now(CLOCK_REALTIME));
    }
}

static void speak(wire_t *w, stream_t *s, double t) {
    script_t *script = &w->script[s->script];
    uint8_t b[12 + 1500 + 32];
    while (t >= s->due) {
        payload_t *p = &script->payloads[s->at];
        if (s->counted) count(w->totals.late, LATE_BINS, t - s->due);
        b[0] = 0x80; b[1] = s->payload_type | (s->at == 0 ? 128 : 0);
        b[2] = s->seq >> 8; b[3] = s->seq;
        put32(b + 4, s->ts); put32(b + 8, s->ssrc);
        memcpy(b + 12, p->data, p->size);
        size_t n = 12 + p->size;
        if (s->secure) n = protect(&s->tx, b, n);
        if (s->at == 0) { s->spoke_at = now(CLOCK_REALTIME); if (s->counted) w->totals.spurts_sent++; }
        if (sendto(s->fd, b, n, MSG_DONTWAIT, (void *)&s->to, sizeof s->to) > 0 && s->counted) w->totals.sent++;
        s->at = (s->at + 1) % script->count;
        s->seq++; s->ts += script->step; s->due += script->every;
    }
}

/* Until wire_stop. Woken by its timer alone: packets have the kernel's times, and who sends them is
 * not to pay for waking who measures it, as nobody does on a network. */
void wire_run(wire_t *w) {
    struct epoll_event events[256];
    struct pollfd timer = {.fd = w->timer, .events = POLLIN};
    while (!w->stop) {
        uint64_t ticks;
        if (poll(&timer, 1, 100) > 0 && read(w->timer, &ticks, 8) < 0) {}
        pthread_mutex_lock(&w->lock);
        for (int n = 256; n == 256;) {
            n = epoll_wait(w->ep, events, 256, 0);
            for (int i = 0; i < n; i++) {
                uint32_t id = events[i].data.u32;
                if ((int)id < w->used && w->streams[id]) receive(w, w->streams[id]);
            }
        }
        double t = now(CLOCK_MONOTONIC);
        for (int i = 0; i < w->used; i++)
            if (w->streams[i] && t >= w->streams[i]->due) speak(w, w->streams[i], t);
        w->totals.cpu_ns = (uint64_t)(now(CLOCK_THREAD_CPUTIME_ID) * 1e9);
        pthread_mutex_unlock(&w->lock);
    }
}

void wire_stop(wire_t *w) { w->stop = 1; }

/* Copies what was counted since the last time, and counts anew. */
void wire_take(wire_t *w, totals_t *out) {
    pthread_mutex_lock(&w->lock);
    *out = w->totals;
    memset(&w->totals, 0, sizeof w->totals);
    w->totals.cpu_ns = out->cpu_ns;
    pthread_mutex_unlock(&w->lock);
}
