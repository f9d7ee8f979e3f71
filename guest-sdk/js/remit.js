// Write Remit steps in JavaScript: `README.md` beside this file says how.

export { Fail, Refusal } from "./fail.js";
export { step } from "./step.js";
export * as log from "./log.js";
export * as schema from "./schema.js";
