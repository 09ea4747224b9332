// The playground's own server. Answers are JSON, an image is { blob }, an error is { error: { kind, message } }.

async function call(path, options) {
  let reply;
  try {
    reply = await fetch(path, options);
    if (reply.headers.get("Content-Type")?.startsWith("image/")) return { blob: await reply.blob() };
  } catch (error) {
    if (error.name === "AbortError") throw error;
    return { error: { kind: "PlaygroundGone", message: "The playground itself does not answer: was it stopped?" } };
  }
  try {
    return await reply.json();
  } catch {
    return { error: { kind: "PlaygroundFailed", message: `The playground answered ${reply.status} ${reply.statusText}` } };
  }
}

export const get = (path) => call(path);

export const post = (path, body, signal) =>
  call(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body), signal });

// The bytes of a blob as base64.
export function base64(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1));
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });
}
