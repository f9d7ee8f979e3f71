// How a step ends when it does not succeed, and why the host did not do what was asked of it.

/** The step failed: one sentence for a person, and details by name. */
export class Fail extends Error {
  constructor(message, fields = {}) {
    super(message);
    this.name = "Fail";
    this.fields = fields;
  }
}

const WORDS = {
  denied: (what) => `not allowed by this step's remit: ${what}`,
  "over-limit": (what) => `a limit of this step's remit is used up: ${what}`,
  cancelled: () => "cancelled",
  failed: (why) => why,
};

/** The host did not do what was asked of it; `kind` is `denied`, `over-limit`, `cancelled` or `failed`. Thrown out of a step, it
 * ends it: as cancelled if it is that, else as failed. */
export class Refusal extends Error {
  constructor(kind, what = "") {
    super(WORDS[kind](what));
    this.name = "Refusal";
    this.kind = kind;
  }
}

/** Calls a host function; what it throws comes in the SDK's words. */
export function asked(call) {
  try {
    return call();
  } catch (error) {
    const payload = error?.payload ?? error;
    if (payload instanceof Error || !(payload?.tag in WORDS)) throw error;
    throw new Refusal(payload.tag, payload.val);
  }
}
