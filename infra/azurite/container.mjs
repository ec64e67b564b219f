// Creates a container in Azurite; one that is there already is as good.
//
// usage: node container.mjs URL CONTAINER        the key is Azurite's own, which everybody knows
import { createHmac } from "node:crypto";

const [url, container] = process.argv.slice(2);
const account = "devstoreaccount1";
const key = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";
const headers = { "x-ms-date": new Date().toUTCString(), "x-ms-version": "2021-12-02" };
const named = Object.entries(headers).map(([name, value]) => `${name}:${value}\n`).join("");
// The account stands there twice: once for whose key it is, once because Azurite has it in its paths.
const signed = `PUT${"\n".repeat(12)}${named}/${account}/${account}/${container}\nrestype:container`;
const signature = createHmac("sha256", Buffer.from(key, "base64")).update(signed).digest("base64");
const answer = await fetch(`${url}/${account}/${container}?restype=container`, {
  method: "PUT",
  headers: { ...headers, Authorization: `SharedKey ${account}:${signature}` },
});
if (answer.status !== 201 && answer.status !== 409) {
  console.error(answer.status, await answer.text());
  process.exit(1);
}
