/*
 * Frames of a data channel, sealed and opened here (wire/channel.py says how they look). AES-256-GCM is libcrypto's, which is looked for
 * when it is first needed: without it Python speaks alone over every channel.
 */
#include <dlfcn.h>

#include "mos.h"

#define GET_TAG 0x10            /* EVP_CTRL_AEAD_* (openssl/evp.h) */
#define SET_TAG 0x11

/* Functions of libcrypto 1.1 and 3, which have not changed between them (EVP_EncryptInit(3)). */
static struct {
    void *(*context)(void);
    void (*forget)(void *);
    const void *(*aes_256_gcm)(void);
    int (*begin)(void *, const void *, void *, const unsigned char *, const unsigned char *, int);
    int (*update)(void *, unsigned char *, int *, const unsigned char *, int);
    int (*end)(void *, unsigned char *, int *);
    int (*control)(void *, int, int, void *);
} evp;

static int found(void)
{
    static const char *const names[] = {"libcrypto.so.3", "libcrypto.so.1.1"};
    void *library = NULL;
    for (int i = 0; !library && i < 2; i++)
        library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
    if (!library)
        return 0;
    *(void **)&evp.context = dlsym(library, "EVP_CIPHER_CTX_new");
    *(void **)&evp.forget = dlsym(library, "EVP_CIPHER_CTX_free");
    *(void **)&evp.aes_256_gcm = dlsym(library, "EVP_aes_256_gcm");
    *(void **)&evp.begin = dlsym(library, "EVP_CipherInit_ex");
    *(void **)&evp.update = dlsym(library, "EVP_CipherUpdate");
    *(void **)&evp.end = dlsym(library, "EVP_CipherFinal_ex");
    *(void **)&evp.control = dlsym(library, "EVP_CIPHER_CTX_ctrl");
    return evp.context && evp.forget && evp.aes_256_gcm && evp.begin && evp.update && evp.end && evp.control;
}

/* Python sends the rest. */
void mos_sent(struct mos_channel *c)
{
    free(c->unsent);
    c->unsent = NULL;
    c->unsent_left = 0;
}

void mos_channel_end(struct mos_channel *c)
{
    if (c->out)
        evp.forget(c->out);
    if (c->in)
        evp.forget(c->in);
    c->out = c->in = NULL;
    mos_sent(c);
}

static int take_key(struct mos_channel *c, const unsigned char *key)
{
    c->out = evp.context();
    c->in = evp.context();
    if (c->out && c->in && evp.begin(c->out, evp.aes_256_gcm(), NULL, key, NULL, 1) == 1 &&
        evp.begin(c->in, evp.aes_256_gcm(), NULL, key, NULL, 0) == 1)
        return 1;
    mos_channel_end(c);
    return 0;
}

static void nonce_of(unsigned char *nonce, unsigned int direction, uint64_t number)
{
    memcpy(nonce, &direction, 4);
    memcpy(nonce + 4, &number, 8);
}

/* Seal the next frame where it lies: the header, `length` bytes, and room for the tag behind them. 0, or -EIO. */
int mos_seal(struct mos_channel *c, unsigned char *frame, unsigned int length)
{
    unsigned char nonce[12], *data = frame + MOS_HEAD;
    int n;
    nonce_of(nonce, c->direction, c->sent);
    if (evp.begin(c->out, NULL, NULL, NULL, nonce, 1) != 1 || evp.update(c->out, NULL, &n, frame, MOS_HEAD) != 1 ||
        (length && evp.update(c->out, data, &n, data, length) != 1) || evp.end(c->out, data + length, &n) != 1 ||
        evp.control(c->out, GET_TAG, MOS_TAG, data + length) != 1)
        return -EIO;
    c->sent++;
    return 0;
}

/*
 * Is there a libcrypto that does it? Looked for, and tried, once in a process and what it forks: what libcrypto makes for its first use
 * takes a millisecond, and is shared then.
 */
int mos_may_seal(void)
{
    static const unsigned char key[32];
    static int known;
    unsigned char frame[MOS_HEAD + MOS_TAG] = {0};
    struct mos_channel tried = {.fd = -1};
    if (known)
        return known > 0;
    known = found() && take_key(&tried, key) && !mos_seal(&tried, frame, 0) ? 1 : -1;
    if (known > 0)
        mos_channel_end(&tried);
    return known > 0;
}

/* From now on frames may be sealed and opened here, too: 1; 0 if that cannot be. */
int mos_channel_key(struct mos_channel *c, const unsigned char *key) { return mos_may_seal() && take_key(c, key); }

/*
 * Open the next frame, which stays as it is, into `to`: 0, or -EBADMSG if it is not what the peer has sealed. It counts as received only
 * when its reader says so (c->received).
 */
int mos_open(struct mos_channel *c, const unsigned char *frame, unsigned int length, unsigned char *to)
{
    unsigned char nonce[12], last[MOS_TAG];
    const unsigned char *data = frame + MOS_HEAD;
    int n;
    nonce_of(nonce, !c->direction, c->received);
    if (evp.begin(c->in, NULL, NULL, NULL, nonce, 0) != 1 || evp.update(c->in, NULL, &n, frame, MOS_HEAD) != 1 ||
        (length && evp.update(c->in, to, &n, data, length) != 1) ||
        evp.control(c->in, SET_TAG, MOS_TAG, (void *)(data + length)) != 1 || evp.end(c->in, last, &n) != 1)
        return -EBADMSG;
    return 0;
}

/* Make the next frame where its payload lies, behind room for the header: 1, or 0 and the channel is broken. */
static int make(struct mos_channel *c, unsigned char *frame, unsigned int length, unsigned int kind, unsigned int flags, uint64_t pair)
{
    uint16_t numbers[2] = {kind, flags};
    memcpy(frame, &length, 4);
    memcpy(frame + 4, numbers, 4);
    memcpy(frame + 8, &pair, 8);
    if (!mos_seal(c, frame, length))
        return 1;
    c->broken = EIO;
    return 0;
}

/*
 * Send frames that are made. 1: sent, or as much as the socket took and the rest kept in c->unsent, which Python must send before
 * anything else; 0: nothing was sent, and the channel is broken.
 */
static int put(struct mos_channel *c, const unsigned char *frame, unsigned long whole)
{
    long n = send(c->fd, frame, whole, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0 && errno != EAGAIN && errno != EINTR) {
        c->broken = errno;
        return 0;
    }
    n = n < 0 ? 0 : n;
    if ((unsigned long)n == whole)
        return 1;
    c->unsent = malloc(whole - n);
    if (!c->unsent) {
        c->broken = ENOMEM;
        return 0;
    }
    memcpy(c->unsent, frame + n, whole - n);
    c->unsent_left = whole - n;
    return 1;
}

/* Send a frame whose payload of `length` bytes lies behind room for the header: as `put`. */
int mos_send_frame(struct mos_channel *c, unsigned char *frame, unsigned int length, unsigned int kind, unsigned int flags, uint64_t pair)
{
    return make(c, frame, length, kind, flags, pair) && put(c, frame, MOS_HEAD + length + MOS_TAG);
}

/* The same, with TIME before it if its reader wants that. `frame` lies behind MOS_TIMED bytes that are free. */
int mos_send_timed(struct mos_channel *c, unsigned char *frame, unsigned int length, unsigned int kind, unsigned int flags, uint64_t pair)
{
    unsigned char *begin = frame;
    struct mos_time now;
    if (c->tells) {
        begin -= MOS_TIMED;
        mos_time(&now);
        memcpy(begin + MOS_HEAD, &now, sizeof now);
        if (!make(c, begin, sizeof now, KIND_TIME, 0, 0))
            return 0;
    }
    return make(c, frame, length, kind, flags, pair) && put(c, begin, frame - begin + MOS_HEAD + length + MOS_TAG);
}
