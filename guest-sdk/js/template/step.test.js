// Run with `remit step test`: on this machine, without the sandbox.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Fake } from "./sdk/js/fake/host.mjs";
import greet from "./step.js";

test("it greets", () => {
  const run = new Fake().call(greet, { name: "Ada" });
  assert.deepEqual(run.output, { greeting: "Hello, Ada!" });
  assert.deepEqual(run.log.map(({ message }) => message), ["greeting"]);
});

test("nobody is a failure", () => {
  assert.match(new Fake().call(greet, { name: "" }).failure.message, /nobody/);
});

test("an input that does not fit names its place", () => {
  const run = new Fake().call(greet, { name: 7 });
  assert.equal(run.failure.message, "the input does not fit: at `name`: expected string, found integer");
});
