/* The few functions of a C library that the kernel (and the compiler) need. */
#include "kernel.h"
#include <stdarg.h>

/* String instructions: fast on every CPU of the last decade, and no vector registers. */
void *memcpy(void *to, const void *from, size_t n) {
    void *d = to;
    __asm__ volatile("rep movsb" : "+D"(d), "+S"(from), "+c"(n)::"memory");
    return to;
}

void *memset(void *to, int byte, size_t n) {
    void *d = to;
    __asm__ volatile("rep stosb" : "+D"(d), "+c"(n) : "a"(byte) : "memory");
    return to;
}

void *memmove(void *to, const void *from, size_t n) {
    if ((uint64_t)to - (uint64_t)from >= n) return memcpy(to, from, n);
    uint8_t *d = (uint8_t *)to + n;
    const uint8_t *s = (const uint8_t *)from + n;
    while (n >= 8) {
        d -= 8, s -= 8, n -= 8;
        *(uint64_t *)d = *(const uint64_t *)s;
    }
    while (n--) *--d = *--s;
    return to;
}

int memcmp(const void *a, const void *b, size_t n) {
    const uint8_t *p = a, *q = b;
    for (; n; n--, p++, q++)
        if (*p != *q) return *p - *q;
    return 0;
}

size_t strlen(const char *s) {
    size_t n = 0;
    while (s[n]) n++;
    return n;
}

int strcmp(const char *a, const char *b) {
    while (*a && *a == *b) a++, b++;
    return (uint8_t)*a - (uint8_t)*b;
}

struct sink {
    char *to;
    size_t size, length;
};

static void put(struct sink *sink, char c) {
    if (sink->length + 1 < sink->size) sink->to[sink->length++] = c;
}

static void put_padded(struct sink *sink, const char *s, size_t n, size_t width, char pad, bool left) {
    for (size_t i = n; !left && i < width; i++) put(sink, pad);
    for (size_t i = 0; i < n; i++) put(sink, s[i]);
    for (size_t i = n; left && i < width; i++) put(sink, ' ');
}

static size_t digits(char *end, uint64_t value, unsigned base) {
    char *p = end;
    do *--p = "0123456789abcdef"[value % base];
    while (value /= base);
    return (size_t)(end - p);
}

int format(char *to, size_t size, const char *pattern, ...) {
    struct sink sink = {to, size, 0};
    va_list args;
    va_start(args, pattern);
    for (const char *p = pattern; *p; p++) {
        if (*p != '%') {
            put(&sink, *p);
            continue;
        }
        char number[32], *end = number + sizeof number, pad = ' ';
        bool left = false, wide = false;
        size_t width = 0, n;
        for (p++; *p == '0' || *p == '-'; p++) *p == '0' ? (pad = '0') : (left = true);
        for (; *p >= '0' && *p <= '9'; p++) width = width * 10 + (size_t)(*p - '0');
        for (; *p == 'l'; p++) wide = true;
        if (*p == 's') {
            const char *s = va_arg(args, const char *);
            put_padded(&sink, s, strlen(s), width, ' ', left);
        } else if (*p == 'c') {
            put(&sink, (char)va_arg(args, int));
        } else if (*p == 'd') {
            int64_t v = wide ? va_arg(args, long) : va_arg(args, int);
            n = digits(end, v < 0 ? -(uint64_t)v : (uint64_t)v, 10);
            if (v < 0) end[-(long)++n] = '-';
            put_padded(&sink, end - n, n, width, pad, left);
        } else if (*p == 'u' || *p == 'x' || *p == 'o') {
            uint64_t v = wide ? va_arg(args, unsigned long) : va_arg(args, unsigned);
            n = digits(end, v, *p == 'u' ? 10 : *p == 'x' ? 16 : 8);
            put_padded(&sink, end - n, n, width, pad, left);
        } else {
            put(&sink, *p);
        }
    }
    va_end(args);
    if (size) to[sink.length] = 0;
    return (int)sink.length;
}
