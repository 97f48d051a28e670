/* What the processor says of itself (Intel SDM volume 2, CPUID and XGETBV). */
#include <cpuid.h>

#include "mos.h"

/* CPUID of a leaf and subleaf: EAX, EBX, ECX, EDX; zeros for a leaf that this processor does not have. */
void mos_cpuid(unsigned int leaf, unsigned int subleaf, unsigned int *out)
{
    memset(out, 0, 4 * sizeof *out);
    __get_cpuid_count(leaf, subleaf, &out[0], &out[1], &out[2], &out[3]);
}

/* XCR0: the state components that the kernel enables for programs; 0 where it does not use XSAVE. */
unsigned long mos_xcr0(void)
{
    unsigned a, b, c = 0, d, lo, hi;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE))
        return 0;
    __asm__("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return (unsigned long)hi << 32 | lo;
}

/* Not before earlier instructions have ended; RDTSCP, which does that too, is not everywhere. */
unsigned long mos_rdtsc(void)
{
    _mm_lfence();
    return __rdtsc();
}
