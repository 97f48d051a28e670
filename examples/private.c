/* Private temporary files: secondary memory that moves with the program.
 *
 *     gcc -o private private.c
 *     mosrun -X /tmp ./private [NODE...]
 *
 * Fills /tmp/numbers with the squares of 0 to 999999, moves to each node in turn (0 is home), and adds them up there. The file
 * is never in the real /tmp, and needs not be removed. The same program also runs without mosrun, where it stays.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define COUNT 1000000
#define PIECE 4096

static unsigned long numbers[PIECE];

static void must(int good, const char *what)
{
	if (!good) {
		perror(what);
		exit(1);
	}
}

int main(int argc, char **argv)
{
	int fd = open("/tmp/numbers", O_RDWR | O_CREAT | O_TRUNC, 0600), where = 0;

	must(fd >= 0, "/tmp/numbers");
	for (unsigned long n = 0; n < COUNT; n += PIECE) {
		for (unsigned long i = 0; i < PIECE; i++)
			numbers[i] = (n + i) * (n + i);
		must(write(fd, numbers, sizeof(numbers)) == sizeof(numbers), "write");
	}
	for (int turn = 0; turn < argc; turn++) {
		unsigned long sum = 0;

		if (turn > 0) {
			if (open("/proc/self/migrate", 1 | O_CREAT, atoi(argv[turn])) == -1)
				perror(argv[turn]);
			where = open("/proc/self/whereami", 0);
		}
		must(lseek(fd, 0, SEEK_SET) == 0, "lseek");
		for (unsigned long n = 0; n < COUNT; n += PIECE) {
			must(read(fd, numbers, sizeof(numbers)) == sizeof(numbers), "read");
			for (unsigned long i = 0; i < PIECE && n + i < COUNT; i++)
				sum += numbers[i];
		}
		printf("node %d: %lu\n", where, sum);
	}
	close(fd);
	unlink("/tmp/numbers");
	return 0;
}
