// From a function and two schemas to a step, and what it may know of its run.

import * as host from "remit:step/context@0.1.0";
import { asked, Fail } from "./fail.js";
import { check } from "./schema.js";

const DIALECT = "https://json-schema.org/draft/2020-12/schema";

/** The run: given to the step's function. */
export const context = {
  /** The node that the step is being run for: name, tags, attributes; undefined in a workflow step. */
  get node() {
    const node = host.node();
    return node && { name: node.name, tags: [...node.tags], attributes: Object.fromEntries(node.attributes) };
  },
  get execution() { return host.execution(); },
  get step() { return host.step(); },
  /** The number of this try, from 1. */
  get attempt() { return host.attempt(); },
  /** The same for every try of this step on this node in this execution, and for nothing else. */
  get idempotencyKey() { return host.idempotencyKey(); },
  /** True as soon as the run has been cancelled. */
  get cancelled() { return host.cancelled(); },
  /** Milliseconds until the wall clock limit ends the run. */
  get remaining() { return Number(host.remaining()); },
  /** Tells how far the run is; a total of 0 means that it is not known. */
  progress(done, total = 0) { host.progress(BigInt(done), BigInt(total)); },
  /** Waits; a `Refusal` of kind `cancelled` when the run is cancelled meanwhile. */
  sleep(milliseconds) { asked(() => host.sleep(BigInt(Math.max(0, Math.round(milliseconds))))); },
};

/** A step: the schemas of its input and output, and the function `(input, context) => output`. */
export function step({ input, output }, run) {
  if (!input || !output || typeof run !== "function") {
    throw new TypeError("a step is written as step({ input: SCHEMA, output: SCHEMA }, (input, context) => …)");
  }
  return {
    describe: () => JSON.stringify({ input: { $schema: DIALECT, ...input }, output: { $schema: DIALECT, ...output } }),
    call(text) {
      let value;
      try {
        value = JSON.parse(text);
      } catch (error) {
        throw new Fail(`the input does not fit: ${error.message}`);
      }
      check(input, value);
      const gives = run(value, context);
      if (typeof gives?.then === "function") throw new TypeError("a step's function is not async: what waits here simply waits");
      // Checked against what the manifest promises, so that a later step never sees something else.
      check(output, gives, "output");
      return JSON.stringify(gives);
    },
  };
}
