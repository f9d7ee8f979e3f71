// A host for unit tests: it answers as it was told, and tells what the step did.
//
//     const run = new Fake().http("GET", "https://a.example/", { status: 200, json: { up: true } }).call(step, { … });
//     assert.deepEqual(run.output, { up: true });
//
// A call that the test did not prepare is an error that says which; so is an answer that was never asked for. Time does not pass
// by itself: only `sleep` moves it.

import { Fail, Refusal } from "../fail.js";

let current;

function fake() {
  if (!current) throw new Error("there is no host: run the step with `new Fake().call(step, input)`");
  return current;
}

function take(prepared, wanted) {
  const at = prepared.findIndex(({ name }) => name === wanted);
  if (at < 0) throw new Error(`the test did not prepare ${wanted}`);
  const [{ does }] = prepared.splice(at, 1);
  if (does instanceof Refusal) throw does;
  return does;
}

const bytes = (value) => (typeof value === "string" ? new TextEncoder().encode(value) : value);

/** A host that is told beforehand what to answer. */
export class Fake {
  #answers = [];
  #programs = [];
  #secrets = new Map();

  constructor() {
    this.run = { log: [], progress: [], sent: [], started: [], revealed: [], slept: 0 };
    this.node = undefined;
    this.cancelled = false;
  }

  /** The node that the step is run for. */
  on({ name, tags = [], attributes = {} }) {
    this.node = { name, tags, attributes: Object.entries(attributes) };
    return this;
  }

  /** The run has been cancelled. */
  cancel() {
    this.cancelled = true;
    return this;
  }

  /** A secret that the step may see. */
  secret(name, value) {
    this.#secrets.set(name, value);
    return this;
  }

  /** The next request of this method to this address is answered so; a `Refusal` is thrown. */
  http(method, url, does) {
    this.#answers.push({ name: `${method} ${url}`, does });
    return this;
  }

  /** The next start of this program with these arguments does so: { stdout, stderr, code }; a `Refusal` is thrown. */
  exec(program, args, does) {
    this.#programs.push({ name: `${program} ${JSON.stringify(args)}`, does });
    return this;
  }

  /** Runs a step with a value as JSON has it: through its input's schema to its output's. */
  call(step, value) {
    const before = current;
    current = this;
    try {
      this.run.output = JSON.parse(step.call(JSON.stringify(value)));
    } catch (error) {
      if (error instanceof Refusal && error.kind === "cancelled") this.run.cancelled = true;
      else if (error instanceof Fail || error instanceof Refusal) this.run.failure = error;
      else throw error;
    } finally {
      current = before;
    }
    const left = [...this.#answers, ...this.#programs].map(({ name }) => name);
    if (left.length > 0) throw new Error(`prepared, and never asked for: ${left.join(", ")}`);
    return this.run;
  }

  answer(name) { return take(this.#answers, name); }
  program(name) { return take(this.#programs, name); }

  reveal(name) {
    if (!this.#secrets.has(name)) throw new Refusal("denied", `reveal ${name}`);
    this.run.revealed.push(name);
    return this.#secrets.get(name);
  }
}

// remit:step/log
export const write = (level, message, fields) => fake().run.log.push({ level, message, fields: Object.fromEntries(fields) });

// remit:step/context
export const node = () => fake().node;
export const execution = () => "00000000-0000-0000-0000-000000000000";
export const step = () => "test";
export const attempt = () => 1;
export const idempotencyKey = () => "test-key";
export const cancelled = () => fake().cancelled;
export const remaining = () => BigInt(Math.max(0, 60_000 - fake().run.slept));
export const progress = (done, total) => fake().run.progress.push([Number(done), Number(total)]);
export function sleep(milliseconds) {
  if (fake().cancelled) throw new Refusal("cancelled");
  fake().run.slept += Number(milliseconds);
}

// remit:secrets/reveal
export const get = (name) => fake().reveal(name);

// remit:exec/run
export const Child = {
  start(program, args, stdin) {
    const { stdout = "", stderr = "", code = 0 } = fake().program(`${program} ${JSON.stringify(args)}`);
    fake().run.started.push({ program, args, stdin });
    const chunks = [{ tag: "stdout", val: bytes(stdout) }, { tag: "stderr", val: bytes(stderr) }];
    return { read: () => chunks.shift(), wait: () => ({ tag: "code", val: code }) };
  },
};

// wasi:http, as guest-http.js gives it
export function send({ method, scheme, authority, path, headers, body, maxBody }) {
  const url = `${scheme}://${authority}${path}`;
  const { status = 200, headers: given = {}, body: text = "", json } = fake().answer(`${method} ${url}`);
  fake().run.sent.push({ method, url, headers: Object.fromEntries(headers), body: new TextDecoder().decode(body) });
  const answer = bytes(json === undefined ? text : JSON.stringify(json));
  return { status, headers: Object.entries(given), body: answer.length > maxBody ? undefined : answer };
}
