/* flow out BYTES SIZE: writes so many bytes to standard output, SIZE at a time.
 * flow in SIZE: reads standard input to its end, SIZE at a time, and prints nanoseconds for a megabyte, from the first byte on.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static long long now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

int main(int argc, char **argv)
{
	int out = argc > 3 && !strcmp(argv[1], "out");
	size_t size = argc > 2 ? atol(argv[argc - 1]) : 0;
	long long left = out ? atoll(argv[2]) : 0, all = 0, began = 0;
	char *buffer = calloc(1, size + !size);
	ssize_t n;

	if (!size || !buffer)
		return 2;
	while (out && left > 0) {
		n = write(1, buffer, left < (long long)size ? (size_t)left : size);
		if (n < 0) {
			perror("write");
			return 1;
		}
		left -= n;
	}
	if (out)
		return 0;
	while ((n = read(0, buffer, size)) > 0) {
		if (!began)
			began = now();
		else
			all += n;
	}
	if (n < 0) {
		perror("read");
		return 1;
	}
	printf("%.0f\n", (now() - began) * 1048576.0 / (all + !all));
	return 0;
}
