// What a component of kind `step` exports. How it ends is thrown as the interface has it.

import { write } from "remit:step/log@0.1.0";
import { Fail, Refusal } from "./fail.js";

const failed = (message, fields = {}) => ({
  tag: "failed",
  val: { message, fields: Object.entries(fields).map(([name, value]) => [name, String(value)]) },
});

function end(error) {
  if (error instanceof Fail) return failed(error.message, error.fields);
  if (error instanceof Refusal) return error.kind === "cancelled" ? { tag: "cancelled" } : failed(`${error.message}`);
  if (error?.stack) write("debug", error.stack, []);
  return failed(`${error}`);
}

export const main = (step) => ({
  describe: () => step.describe(),
  run(input) {
    try {
      return step.call(input);
    } catch (error) {
      throw end(error);
    }
  },
});
