/*
 * A program that steers itself: it works on another node for a while and comes home to tell.
 *
 *     cc -Iinclude -o control examples/control.c && mosrun ./control 2
 */
#include <mosix.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

static volatile sig_atomic_t moves;

static void moved(int signal)
{
    (void)signal;
    moves++;
}

static unsigned long work(void)
{
    unsigned long sum = 0, i;

    for (i = 1; i <= 1000000; i++)
        sum += i * i % 7;
    return sum;
}

int main(int argc, char **argv)
{
    int node = argc > 1 ? atoi(argv[1]) : 2;
    unsigned long sum;

    if (mosix_read("nmigs") < 0) {
        fprintf(stderr, "%s: not under mosrun\n", argv[0]);
        return 1;
    }
    signal(SIGUSR1, moved);
    mosix_write("sigmig", SIGUSR1); /* tell us of each move ... */
    mosix_write("needmem", 100);    /* ... go only where 100 MB are free ... */
    printf("was locked: %d\n", mosix_swap("lock", 1)); /* ... and not by themselves */

    if (mosix_in_cluster(node) != 1) {
        fprintf(stderr, "%s: node %d is not one of ours\n", argv[0], node);
        return 1;
    }
    if (mosix_write("migrate", node) < 0) {
        fprintf(stderr, "%s: cannot go to node %d: %s\n", argv[0], node, strerror(errno));
        return 1;
    }
    printf("on node %u\n", mosix_where());
    sum = work();
    mosix_write("migrate", 0);
    printf("at home: %s\n", mosix_where() == 0 ? "yes" : "no");
    printf("moved %s, result %lu\n", moves >= 2 ? "there and back" : "too little", sum);
    return 0;
}
