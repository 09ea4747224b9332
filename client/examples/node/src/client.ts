// A client for image + text models on TensorFlow Serving. Copy it: it is an example, not a package.
//
// It sends the file and the text as they are, to the signature `serving_bytes`: the model's graph decodes, resizes and
// tokenises, so nothing here has to know how.
import { fileURLToPath } from "node:url";
import * as grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";

const PROTOS = fileURLToPath(new URL("../../../proto", import.meta.url));

export interface Options {
  model: string;
  /** A version label such as "stable"; the latest version without. */
  label?: string;
  /** Of a call, its retries included, in milliseconds. */
  timeout?: number;
  /** Without: plain text. With mutual TLS: `grpc.credentials.createSsl(ca, key, certificate)`. */
  credentials?: grpc.ChannelCredentials;
}

export interface Answer {
  label: string;
  probability: number;
  /** By class. */
  probabilities: Map<string, number>;
  version: number;
}

/** What the model says of itself; more keys are there, see the Python client's PreprocessingSpec. */
export interface Spec {
  version: number;
  digest: string;
  labels: string[];
  image_height: number;
  image_width: number;
  token_length: number;
}

interface Tensor {
  dtype: string;
  tensorShape: { dim: { size: string }[] };
  floatVal: number[];
  stringVal: Buffer[];
  tensorContent: Buffer;
}

interface Reply {
  modelSpec: { version: { value: string } };
  outputs: Record<string, Tensor>;
}

type Predict = (
  request: object,
  metadata: grpc.Metadata,
  options: grpc.CallOptions,
  callback: (error: grpc.ServiceError | null, reply?: Reply) => void,
) => grpc.ClientUnaryCall;

const CHANNEL: grpc.ChannelOptions = {
  "grpc.service_config": JSON.stringify({
    // Each call goes to the next replica. Give a name behind which all replicas are: dns:///duoserve-headless:8500
    loadBalancingConfig: [{ round_robin: {} }],
    methodConfig: [
      {
        name: [{ service: "tensorflow.serving.PredictionService" }],
        // Predict changes nothing on the server, so a call that a broken connection cut is sent again.
        retryPolicy: {
          maxAttempts: 4,
          initialBackoff: "0.05s",
          maxBackoff: "1s",
          backoffMultiplier: 2,
          retryableStatusCodes: ["UNAVAILABLE"],
        },
      },
    ],
    retryThrottling: { maxTokens: 200, tokenRatio: 0.1 },
  }),
  "grpc.service_config_disable_resolution": 1,
  "grpc.max_receive_message_length": 256 << 20, // the default is 4 MB
  "grpc.keepalive_time_ms": 5000, // a dead replica is noticed during a call, ...
  "grpc.keepalive_timeout_ms": 3000,
  "grpc.keepalive_permit_without_calls": 0, // ... and an idle connection is left alone: servers refuse pings on it
};

export class Client {
  readonly #stub: grpc.Client & { Predict: Predict };
  readonly #options: Required<Omit<Options, "credentials" | "label">> & { label: string | undefined };
  #spec: Spec | undefined;

  /** @param address "host:port", or "dns:///name:port" for all addresses behind a name. */
  constructor(address: string, options: Options) {
    const loaded = loadSync("tensorflow/serving.proto", { includeDirs: [PROTOS], longs: String, enums: String, defaults: true });
    const root = grpc.loadPackageDefinition(loaded) as unknown as {
      tensorflow: { serving: { PredictionService: grpc.ServiceClientConstructor } };
    };
    const credentials = options.credentials ?? grpc.credentials.createInsecure();
    const service = root.tensorflow.serving.PredictionService;
    this.#stub = new service(address, credentials, CHANNEL) as unknown as grpc.Client & { Predict: Predict };
    this.#options = { model: options.model, label: options.label, timeout: options.timeout ?? 10_000 };
  }

  /** The class of an image (the bytes of a JPEG, PNG or WebP) and a text. */
  async predict(image: Uint8Array, text: string): Promise<Answer> {
    const deadline = Date.now() + this.#options.timeout;
    const reply = await this.#call("serving_bytes", { image_bytes: strings(image), text: strings(Buffer.from(text, "utf-8")) }, deadline);
    const version = Number(reply.modelSpec.version.value);
    if (this.#spec?.version !== version) {
      this.#spec = await this.#describe(deadline, version); // another version answered than last time: its classes
    }
    const probabilities = floats(output(reply, "probabilities"));
    const label = output(reply, "label").stringVal[0]?.toString("utf-8");
    const at = label === undefined ? -1 : this.#spec.labels.indexOf(label);
    const probability = probabilities[at];
    if (label === undefined || probability === undefined || probabilities.length !== this.#spec.labels.length) {
      throw new Error(`Expected one of ${this.#spec.labels.length} classes. Received: ${label}`);
    }
    const pairs = this.#spec.labels.map((name, i): [string, number] => [name, probabilities[i] ?? Number.NaN]);
    return { label, probability, probabilities: new Map(pairs), version };
  }

  /** What the version behind the label takes and answers. */
  async describe(): Promise<Spec> {
    return await this.#describe(Date.now() + this.#options.timeout);
  }

  close(): void {
    this.#stub.close();
  }

  async #describe(deadline: number, version?: number): Promise<Spec> {
    const reply = await this.#call("describe", { key: strings(Buffer.alloc(0)) }, deadline, version);
    const json = output(reply, "spec").stringVal[0]?.toString("utf-8");
    if (json === undefined) {
      throw new Error("Expected a spec. Received: none");
    }
    const spec = JSON.parse(json) as Spec;
    return { ...spec, version: Number(reply.modelSpec.version.value) };
  }

  #call(signature: string, inputs: Record<string, object>, deadline: number, version?: number): Promise<Reply> {
    const { model, label } = this.#options;
    const choice = version !== undefined ? { version: { value: version } } : label !== undefined ? { versionLabel: label } : {};
    const request = { modelSpec: { name: model, signatureName: signature, ...choice }, inputs };
    return new Promise((resolve, reject) => {
      this.#stub.Predict(request, new grpc.Metadata(), { deadline }, (error, reply) => {
        if (error !== null || reply === undefined) {
          reject(error ?? new Error("Expected a reply. Received: none"));
        } else {
          resolve(reply);
        }
      });
    });
  }
}

/** A string array of shape (1,). */
function strings(value: Uint8Array): object {
  return { dtype: "DT_STRING", tensorShape: { dim: [{ size: 1 }] }, stringVal: [value] };
}

function output(reply: Reply, name: string): Tensor {
  const found = reply.outputs[name];
  if (found === undefined) {
    throw new Error(`Expected the output ${name}. Received: ${Object.keys(reply.outputs).join(", ") || "none"}`);
  }
  return found;
}

/** The numbers of a float32 tensor: in tensor_content where the server runs with that flag, else in float_val. */
function floats(tensor: Tensor): number[] {
  if (tensor.tensorContent.length === 0) {
    return tensor.floatVal;
  }
  const { buffer, byteOffset, byteLength } = Buffer.from(tensor.tensorContent); // a copy starts at a multiple of 4
  const view = new DataView(buffer, byteOffset, byteLength);
  return Array.from({ length: byteLength / 4 }, (_, i) => view.getFloat32(i * 4, true));
}
