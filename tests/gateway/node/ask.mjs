// What a user of the official SDK for Node.js does, through the gateway at ANTHROPIC_BASE_URL; what came of it, as JSON.
import Anthropic from "@anthropic-ai/sdk";

const client = new Anthropic({ apiKey: "of-the-client" });
const ask = (text, more = {}) => ({
  model: "claude-haiku-5-5",
  max_tokens: 64,
  messages: [{ role: "user", content: text }],
  ...more,
});

const all = await Promise.all(
  Array.from({ length: 30 }, (_, n) => client.messages.create(ask(`question ${n}`)).withResponse()),
);

const stream = client.messages.stream(ask("a stream"));
let pieces = 0;
stream.on("text", () => pieces++);
const final = await stream.finalMessage();

let error;
try {
  await client.messages.create(ask("an error", { model: "claude-nowhere-1" }));
} catch (caught) {
  error = {
    typed: caught instanceof Anthropic.NotFoundError,
    status: caught.status,
    type: caught.type,
    retry: caught.headers.get("x-should-retry"),
  };
}

let refused;
try {
  await client.messages.create(ask("late"), { headers: { "x-claude-executor-deadline": "never" } });
} catch (caught) {
  refused = { typed: caught instanceof Anthropic.BadRequestError, type: caught.type };
}

const { max_tokens: _, ...counted } = ask("count these");
const { input_tokens } = await client.messages.countTokens(counted);
const models = [];
for await (const model of client.models.list()) models.push(model.id);

console.log(
  JSON.stringify({
    ids: all.map(({ data }) => data.id),
    attempts: all.map(({ response }) => Number(response.headers.get("x-claude-executor-attempts"))),
    stream: { stop: final.stop_reason, pieces, text: final.content[0].text },
    error,
    refused,
    input_tokens,
    models,
  }),
);
