// Workers with messages and shared atomics, the pool of libuv (hashes, files, compression), timers, and processes.
const { Worker, isMainThread, parentPort, workerData } = require("worker_threads");
const child = require("child_process"), crypto = require("crypto"), fs = require("fs"), util = require("util"), zlib = require("zlib");

async function worked(number) {
  const worker = new Worker(__filename, { workerData: number });
  const answer = new Promise((good, bad) => { worker.on("message", good); worker.on("error", bad); });
  const ended = new Promise(good => worker.on("exit", good));
  return (await answer) + (await ended);
}

async function main(rounds) {
  const pbkdf2 = util.promisify(crypto.pbkdf2), deflate = util.promisify(zlib.deflate), run = util.promisify(child.execFile);
  for (let r = 0; r < rounds; r++) {
    const keys = await Promise.all([1, 2, 3, 4].map(n => pbkdf2("a" + n, "b" + r, 2000, 16, "sha256")));
    const packed = await Promise.all([1, 2, 3].map(n => deflate(Buffer.alloc(200000, "text " + n + r))));
    const sums = await Promise.all([1, 2, 3].map(n => worked(n + r)));
    await fs.promises.writeFile("of-node-" + r, "line\n".repeat(1000 + r));
    const text = await fs.promises.readFile("of-node-" + r, "utf8");
    await fs.promises.unlink("of-node-" + r);
    const begun = process.hrtime.bigint();
    await new Promise(good => setTimeout(good, 10));
    const early = process.hrtime.bigint() - begun < 9000000n;
    const { stdout } = await run("sh", ["-c", "echo child " + r]);
    console.log(r, keys.map(key => key.toString("hex").slice(0, 6)).join(" "), packed.map(one => one.length).join(" "), sums.join(" "),
      text.length, early, stdout.trim());
  }
}

if (isMainThread) {
  main(Number(process.argv[2]));
} else {
  let sum = 0;
  for (let i = 0; i < 3e6; i++) sum = (sum * 31 + i + workerData) % 1000003;
  parentPort.postMessage(sum);
}
