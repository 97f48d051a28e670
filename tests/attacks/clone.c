/*
 * clone ADDRESS BYTES: one thread writes "nobody shall trace it" over that memory, all the time, while another makes threads. Says whether
 * the memory could be written to, and how many threads there were.
 */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define UNTRACED 0x800000UL
#define THREADS 200

static volatile uint64_t *memory;
static unsigned long words;
static volatile int closed, over;
static sigjmp_buf back;

static void on_fault(int sig) { (void)sig; siglongjmp(back, 1); }

static void *writes(void *unused)
{
    if (sigsetjmp(back, 1)) {
        closed = 1;
        return unused;
    }
    while (!over)
        for (unsigned long i = 0; i < words; i++)
            if (memory[i] & 0x10000)
                memory[i] |= UNTRACED;
            else
                memory[i] = memory[i];
    return unused;
}

static void *ends(void *made) { ++*(int *)made; return NULL; }

int main(int argc, char **argv)
{
    struct sigaction action = {.sa_handler = on_fault};
    pthread_t writer, thread;
    int made = 0;
    if (argc < 3)
        return 1;
    memory = (uint64_t *)strtoul(argv[1], NULL, 0);
    words = strtoul(argv[2], NULL, 0) / sizeof *memory;
    sigaction(SIGSEGV, &action, NULL);
    if (pthread_create(&writer, NULL, writes, NULL))
        return 2;
    for (int i = 0; i < THREADS; i++) {
        if (pthread_create(&thread, NULL, ends, &made))
            return 3;
        pthread_join(thread, NULL);
    }
    over = 1;
    pthread_join(writer, NULL);
    printf("%s %d\n", closed ? "closed" : "open", made);
    return 0;
}
