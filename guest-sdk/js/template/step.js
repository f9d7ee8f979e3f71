// The step `{{namespace}}/{{name}}`.

import { Fail, log, schema, step } from "./sdk/js/remit.js";

export default step(
  {
    input: schema.object({ name: schema.string("A name.") }, "Whom to greet."),
    output: schema.object({ greeting: schema.string() }),
  },
  (input) => {
    if (input.name === "") throw new Fail("there is nobody to greet: `name` is empty");
    log.info("greeting", { name: input.name });
    return { greeting: `Hello, ${input.name}!` };
  },
);
