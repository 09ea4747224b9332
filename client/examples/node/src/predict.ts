// npm run predict -- localhost:8500 emoji photo.jpg "a red heart" [--label stable] [--ca ca.pem]
import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import * as grpc from "@grpc/grpc-js";
import { Client } from "./client.ts";

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: { label: { type: "string" }, ca: { type: "string" }, timeout: { type: "string", default: "10000" } },
});
const [address, model, image, text] = positionals;
if (address === undefined || model === undefined || image === undefined || text === undefined) {
  console.error("Expected ADDRESS MODEL IMAGE TEXT [--label LABEL] [--ca FILE] [--timeout MS].");
  process.exit(2);
}

const client = new Client(address, {
  model,
  timeout: Number(values.timeout),
  ...(values.label === undefined ? {} : { label: values.label }),
  ...(values.ca === undefined ? {} : { credentials: grpc.credentials.createSsl(readFileSync(values.ca)) }),
});
try {
  const answer = await client.predict(readFileSync(image), text);
  console.log(JSON.stringify({ ...answer, probabilities: Object.fromEntries(answer.probabilities) }));
} catch (error) {
  console.error(`error: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = 1;
} finally {
  client.close();
}
