import java.nio.file.*;
import java.security.MessageDigest;
import java.util.*;
import java.util.concurrent.*;
import java.util.concurrent.atomic.*;
import java.util.concurrent.locks.*;

/** Pools, parallel streams, locks with and without time, timers, garbage, and processes: ROUNDS, or until there is a FILE. */
public class Pools {
    static long hash(int n) throws Exception {
        MessageDigest digest = MessageDigest.getInstance("SHA-256");
        byte[] block = new byte[30000];
        Arrays.fill(block, (byte) n);
        byte[] sum = digest.digest(block);
        return ((sum[0] & 255) << 16) + ((sum[1] & 255) << 8) + (sum[2] & 255);
    }

    static long pooled(int tasks) throws Exception {
        ExecutorService pool = Executors.newFixedThreadPool(5);
        List<Future<Long>> parts = new ArrayList<>();
        for (int i = 0; i < tasks; i++) {
            final int n = i;
            parts.add(pool.submit(() -> hash(n)));
        }
        long sum = 0;
        for (Future<Long> part : parts)
            sum = (sum * 31 + part.get()) % 1000003;
        pool.shutdown();
        if (!pool.awaitTermination(60, TimeUnit.SECONDS))
            throw new Exception("the pool does not end");
        return sum;
    }

    static int passed(int rounds) throws Exception {
        ReentrantLock lock = new ReentrantLock();
        Condition turn = lock.newCondition();
        int[] whose = {0};
        Thread[] threads = new Thread[4];
        for (int t = 0; t < threads.length; t++) {
            final int number = t;
            threads[t] = new Thread(() -> {
                for (int i = 0; i < rounds; i++) {
                    lock.lock();
                    try {
                        while (whose[0] % 4 != number)
                            turn.await(50, TimeUnit.MILLISECONDS);
                        whose[0]++;
                        turn.signalAll();
                    } catch (InterruptedException e) {
                        throw new RuntimeException(e);
                    } finally {
                        lock.unlock();
                    }
                }
            });
            threads[t].start();
        }
        for (Thread thread : threads)
            thread.join();
        return whose[0];
    }

    static int timed(int n) throws Exception {
        ScheduledExecutorService timer = Executors.newScheduledThreadPool(2);
        AtomicInteger early = new AtomicInteger(), done = new AtomicInteger();
        List<ScheduledFuture<?>> all = new ArrayList<>();
        for (int i = 0; i < n; i++) {
            final long wish = 3 + i, begun = System.nanoTime();
            all.add(timer.schedule(() -> {
                if (System.nanoTime() - begun < wish * 1000000)
                    early.incrementAndGet();
                done.incrementAndGet();
            }, wish, TimeUnit.MILLISECONDS));
        }
        for (ScheduledFuture<?> one : all)
            one.get();
        timer.shutdown();
        return done.get() - 1000 * early.get();
    }

    public static void main(String[] args) throws Exception {
        int rounds = Integer.parseInt(args[0]);
        for (int r = 0; r < rounds && (args.length < 2 || !Files.exists(Path.of(args[1]))); r++) {
            Path file = Path.of("of-java-" + r);
            Files.writeString(file, "line\n".repeat(1000 + r));
            int lines = Files.readAllLines(file).size();
            Files.delete(file);
            long squares = java.util.stream.LongStream.range(0, 50000).parallel().map(x -> x * x % 97).sum();
            StringBuilder garbage = new StringBuilder();
            for (int i = 0; i < 20000; i++)
                garbage.append(new String("g" + i).length());
            String child = "";
            if (r % 4 == 0) {
                Process process = new ProcessBuilder("sh", "-c", "echo child " + r + "; exit " + r % 5).start();
                child = new String(process.getInputStream().readAllBytes()).trim() + " " + process.waitFor();
            }
            System.out.println(r + " " + pooled(60) + " " + passed(40) + " " + timed(15) + " " + lines + " " + squares + " "
                + garbage.length() + " " + child);
        }
    }
}
