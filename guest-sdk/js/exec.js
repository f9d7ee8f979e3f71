// Programs that the runner's owner named, asked for with `[[exec]]`. There is no shell: arguments are handed over as they are.
//
//     const uptime = exec.run("uptime", ["-p"]).success().text;

import { Child } from "remit:exec/run@0.1.1";
import { asked, Fail } from "./fail.js";

const KEEP = 64 * 1024;

/** How a program ended, and the end of what it wrote. */
class Output {
  constructor(program, exit, stdout, stderr) {
    this.program = program;
    this.code = exit.tag === "code" ? exit.val : undefined;
    this.signal = exit.tag === "signal" ? exit.val : undefined;
    this.stdout = stdout;
    this.stderr = stderr;
  }

  /** Standard output as text. */
  get text() { return new TextDecoder().decode(this.stdout); }

  /** This, or a failure with the exit code and the end of standard error, unless it ended with code 0. */
  success() {
    if (this.code === 0) return this;
    const how = this.code === undefined ? `signal ${this.signal}` : `exit code ${this.code}`;
    throw new Fail(`${this.program} ended with ${how}`, { stderr: new TextDecoder().decode(this.stderr.slice(-2048)).trim() });
  }
}

/** Runs a program to its end and keeps the last `keep` bytes of each stream. */
export function run(program, args = [], { stdin = "", keep = KEEP } = {}) {
  if (!Array.isArray(args)) throw new TypeError("arguments are a list of texts; there is no shell that would take a line apart");
  const bytes = typeof stdin === "string" ? new TextEncoder().encode(stdin) : stdin;
  const child = asked(() => Child.start(program, args.map(String), bytes));
  const kept = { stdout: new Uint8Array(0), stderr: new Uint8Array(0) };
  for (let chunk; (chunk = asked(() => child.read())) !== undefined; ) {
    const joined = new Uint8Array(kept[chunk.tag].length + chunk.val.length);
    joined.set(kept[chunk.tag]);
    joined.set(chunk.val, kept[chunk.tag].length);
    kept[chunk.tag] = joined.slice(Math.max(0, joined.length - keep));
  }
  return new Output(program, asked(() => child.wait()), kept.stdout, kept.stderr);
}
