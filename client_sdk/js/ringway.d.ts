/** Types of ringway.js. Times are in seconds unless the name says otherwise. */

export type StateName = "idle" | "resolving" | "waiting" | "connecting" | "open" | "moving" | "closed";
export type ActionName = "stop" | "back_off" | "retry_node" | "re_route";
export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

/** A place in a channel's log: everything up to and including `seq` of incarnation `gen` is had. */
export interface Position {
  gen: string;
  seq: number;
}

export interface Message {
  /** `u:<uid>` or `g:<group>`; `*` for a broadcast. */
  ch: string;
  /** The sender's own id of the message. */
  id: string;
  /** uid of the sender; empty for a back end. */
  from: string;
  body: any;
  /** Unix milliseconds at the log. */
  ts: number;
  /** null for a volatile message, which is in no log. */
  gen: string | null;
  seq: number | null;
  /** The group's name, or null for a message to the user or to all. */
  group: string | null;
}

/** Messages of a channel are gone for good: the log no longer reaches back to `had`, and goes on at `oldest`. */
export interface Gap {
  ch: string;
  had: Position | null;
  gen: string;
  oldest: number;
}

/** The answer to `join`. */
export interface Joined extends Position {
  group: string;
  unread: number;
  recovered: boolean;
  oldest: number | null;
}

/** Keeps positions across a reload. Values are `gen:seq`. */
export interface PositionStore {
  load(): Record<string, string>;
  save(positions: Record<string, string>): void;
}

export interface Options {
  /** Sent to the lookup as a bearer token; a function is asked before each route. */
  token?: string | (() => string | Promise<string>);
  /** Each message, in order by channel; a promise it returns is waited for. Without it, iterate. */
  onMessage?: (message: Message) => unknown;
  /** Each change of state, with the error that led to it. */
  onState?: (state: StateName, cause: RingwayError | null) => void;
  /** Each gap, before the messages that follow it. Default: console.warn. */
  onGap?: (gap: Gap) => void;
  /** Errors that belong to no receipt, such as a refused re-join, and Unconfirmed where nobody waits on the receipt. */
  onError?: (error: ClientError) => void;
  /** Groups to join from the start. */
  groups?: Iterable<string>;
  /** Acknowledge a message when onMessage is done, or the next one is asked for. Default: true. */
  autoAck?: boolean;
  /** Keeps positions across reloads, such as localStoragePositions("my-app"); a group that has one is joined until it
   * is left. They are saved soon after a join and after messages, when the page is left, and on close. */
  positions?: PositionStore;
  /** Messages kept without `ok`; one more throws SendBufferFull. Default: 1000. */
  outboxLimit?: number;
  /** Messages read ahead of the application; beyond, reading pauses where the WebSocket can (npm `ws`). Default: 10000. */
  inboxLimit?: number;
  /** From opening a WebSocket to the node's welcome. Default: 5. */
  openTimeoutS?: number;
  /** For one lookup to answer. Default: 5. */
  routeTimeoutS?: number;
  /** The WebSocket class; needed before Node 22, which has none of its own. */
  WebSocket?: new (url: string, protocols?: string | string[]) => any;
}

/** What send, publish and join return: the id now, the node's answer by `await`. */
export declare class Receipt<T> implements PromiseLike<T> {
  readonly id: string;
  readonly done: boolean;
  /** Why it failed; null while there is no answer, and after an ok. */
  readonly error: RingwayError | null;
  /** Whether somebody waits for the result now. */
  readonly awaited: boolean;
  /** Rejects with FrameRefused, Unavailable (volatile), Unconfirmed (it may not be sent again), ClientClosed,
   * ClosedByServer, RouteRefused, or when time is up. */
  result(timeoutS?: number | null): Promise<T>;
  /** Resolves when the answer is there, good or bad. */
  settled(): Promise<void>;
  then<A = T, B = never>(
    onResult?: ((value: T) => A | PromiseLike<A>) | null,
    onError?: ((reason: any) => B | PromiseLike<B>) | null,
  ): Promise<A | B>;
}

export declare class Client {
  /** @param lookup URL of a lookup service, or several. @param uid who this is. Throws InvalidInput. */
  constructor(lookup: string | string[], uid: string, options?: Options);
  readonly uid: string;
  readonly lookups: string[];
  readonly state: StateName;
  /** Id of the node the session is (or last was) on; empty before the first welcome. */
  readonly node: string;
  /** Why it stopped for good; null while it has not, and after close(). */
  readonly error: ClientError | null;
  /** The last thing that went wrong, even if the client has got over it. */
  readonly lastProblem: RingwayError | null;
  /** Start. With `wait` (default), resolves when a node said welcome and rejects with RouteRefused, ClosedByServer,
   * ClientClosed, or ConnectFailed after timeoutS (default 30; the client then goes on trying until it is closed). */
  connect(options?: { wait?: boolean; timeoutS?: number | null }): Promise<void>;
  /** A message to a user or several, kept until the node's ok. Throws SendBufferFull, InvalidInput, ClientClosed, or
   * Unavailable (volatile and not connected). The receipt gives the seq, null where there is none. */
  send(to: string | string[], body: any, options?: { volatile?: boolean; id?: string }): Receipt<number | null>;
  publish(group: string, body: any, options?: { id?: string }): Receipt<number | null>;
  /** A volatile message to every session of the cluster (`ch` is `*`), for users with a role that may; the receipt
   * rejects with FrameRefused for anybody else. Throws InvalidInput, ClientClosed, or Unavailable (not connected). */
  broadcast(body: any, options?: { id?: string }): Receipt<null>;
  /** Take part in a group, now and after each reconnect. `from`: everything after this place comes, also what the client
   * has had; without it, what it has not had yet. Throws InvalidInput, ClientClosed. */
  join(group: string, options?: { from?: Position }): Receipt<Joined>;
  leave(group: string): void;
  /** The application is done with the message and with all before it in its channel. */
  ack(message: Message): void;
  /** The next message; the one before it counts as done. */
  receive(timeoutS?: number | null): Promise<Message>;
  /** Until everything sent so far has its answer. */
  flush(timeoutS?: number | null): Promise<void>;
  /** Stop for good. What has no ok fails with ClientClosed; `flush` first to wait for it. */
  close(): Promise<void>;
  [Symbol.asyncIterator](): AsyncIterator<Message>;
}

/** Keeps positions in localStorage under this key. */
export declare function localStoragePositions(key: string, storage?: Pick<Storage, "getItem" | "setItem">): PositionStore;

export declare class RingwayError extends Error {}
export declare class InvalidInput extends RingwayError {
  readonly field: string;
  readonly value: unknown;
  readonly rule: string;
  readonly remedy: string;
}
export declare class Unavailable extends RingwayError {
  readonly service: string;
  readonly why: string;
}
export declare class ClientError extends RingwayError {}
export declare class RouteRefused extends ClientError {
  readonly status: number;
  readonly code: string;
  readonly detail: string;
}
export declare class ConnectFailed extends ClientError {
  readonly url: string;
  readonly why: string;
}
export declare class ClosedByServer extends ClientError {
  readonly code: number;
  readonly reason: string;
}
export declare class FrameRefused extends ClientError {
  readonly code: string;
  readonly detail: string;
  readonly id: string | null;
}
export declare class Unconfirmed extends ClientError {
  readonly id: string;
  /** Seconds since it was first written. */
  readonly age: number;
}
export declare class SendBufferFull extends ClientError {
  readonly limit: number;
}
export declare class TooManyHops extends ClientError {
  readonly hops: number;
}
export declare class ClientClosed extends ClientError {}

export declare const State: Readonly<Record<Uppercase<StateName>, StateName>>;
export declare const CLOSE_CODES: Readonly<Record<string, number>>;
export declare const RANGES: readonly (readonly [number, number, ActionName])[];
export declare const OTHERWISE: ActionName;
/** What the client does after a close with this code. */
export declare function actionFor(code: number): ActionName;
export declare function parseReason(text: string): { spreadMs: number; epoch: number };
