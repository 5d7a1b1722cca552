/** What Checkrein runs, keeps and takes back: executions, snapshots, rollbacks. */
import { BadRequestError, UnreachableError } from "./errors.js";
import { exact } from "./exact.js";
import { Failure, MAX_ROWS_ANSWER } from "./exchange.js";
import type { components } from "./openapi.js";
import {
  type Body,
  count,
  type Found,
  isObject,
  objects,
  optional,
  type Protocol,
  readDecision,
  segment,
  text,
  throwFor,
} from "./protocol.js";
import { Decision, type WaitOptions } from "./result.js";

type Schemas = components["schemas"];

/** A row that a statement returned, by column. Numbers that would lose digits are text. */
export type Row = Readonly<Record<string, unknown>>;
/** What a rollback does about records that somebody changed since. */
export type OnConflict = Schemas["OnConflict"];

const ON_CONFLICT: readonly OnConflict[] = ["refuse", "skip", "force"];

/** What became of statements that Checkrein was asked to run. Ask `executed`: the object is always true. */
export class Execution extends Decision {
  /** It ran and is committed. Never true for what is blocked or held. */
  readonly executed: boolean;
  /** Records that it changed, as the database measured them, cascades and triggers included. */
  readonly affected: number | undefined;
  /** What the last statement that returned rows returned; absent when the answer is a repeated one. */
  readonly rows: readonly Row[] | undefined;
  /** The columns of `rows`, in order. */
  readonly columns: readonly string[];
  /** Each statement's answer, where there were several. */
  readonly results: readonly Found[];
  readonly #whenApproved: (held: Execution, options: WaitOptions) => Promise<Execution>;

  /** Made by the client. */
  constructor(
    decision: Decision,
    whenApproved: (held: Execution, options: WaitOptions) => Promise<Execution>,
  ) {
    super(decision);
    const told: Found = decision.raw;
    // What is not allowed did not run, whatever else an answer says.
    this.executed = decision.allowed && told["executed"] === true;
    this.affected = this.executed ? (count(told["affected"]) ?? undefined) : undefined;
    this.rows = Array.isArray(told["rows"]) ? objects(told["rows"]) : undefined;
    this.columns = Array.isArray(told["columns"]) ? told["columns"].map(String) : [];
    this.results = objects(told["results"]);
    this.#whenApproved = whenApproved;
  }

  /**
   * Waits for a person; once approved, runs it.
   *
   * It is held again when the records that it would touch have changed since it was approved.
   */
  async wait(options: WaitOptions = {}): Promise<Execution> {
    return this.held && this.id !== undefined ? this.#whenApproved(this, options) : this;
  }
}

/** Records as they were before an action, kept to be put back. */
export interface Snapshot {
  /** `snp_…` */
  readonly id: string;
  readonly target: string;
  readonly resource: string;
  /** What the action left is on record too, so that a rollback can tell its work from somebody else's. */
  readonly sealed: boolean;
  /** Records in it. */
  readonly records: number;
  /** Records by resource, those that follow through foreign keys included. */
  readonly byResource: readonly { readonly resource: string; readonly records: number }[];
  /** Its size on disk. */
  readonly bytes: number | undefined;
  /** `live`, or `removed` by retention. */
  readonly state: string;
  /** When it was taken, RFC 3339. */
  readonly createdAt: string | undefined;
  /** The check that it was taken for. */
  readonly checkId: string | undefined;
  /** The whole answer, as the server sent it. */
  readonly raw: Found;
}

/** What a rollback did, or would do. */
export interface RollbackResult {
  /** `done`, `nothing` (all is as it was) or `planned` (a dry run). */
  readonly status: string;
  /** The snapshot that was rolled back. */
  readonly snapshotId: string;
  /** `rbk_…`; absent for a dry run. */
  readonly id: string | undefined;
  /** Records restored. */
  readonly restored: number;
  /** By resource: records to `insert`, `update`, `delete`, `keep`, and `conflicts`. */
  readonly byResource: readonly Found[];
  /** Records that somebody changed since; each with `before`, `after` and `now`. */
  readonly conflicts: readonly Found[];
  /** All of them; `conflicts` shows the first. */
  readonly conflictCount: number;
  /** Names all conflicts as they are, for `planDigest` of the rollback itself. */
  readonly digest: string | undefined;
  /** What else a person should know. */
  readonly notes: readonly string[];
  /** The snapshot that undoes this rollback. */
  readonly undoSnapshotId: string | undefined;
  /** The whole answer, as the server sent it. */
  readonly raw: Found;
}

/** A snapshot, or its id. */
export type SnapshotLike =
  string | { readonly id?: string | undefined; readonly snapshotId?: string | undefined };

/** Requests that change systems, keep records of them and put them back. */
export class Undo {
  constructor(readonly protocol: Protocol) {}

  /** Has statements run. Throws when nobody can tell whether they ran. */
  async execute(body: Body, patienceMs: number, signal?: AbortSignal): Promise<Decision> {
    const path = "/v1/executions";
    // The key makes a second try safe: what ran is not run again.
    const request = { method: "POST", path, body, patienceMs, room: MAX_ROWS_ANSWER, signal } as const;
    const answer = await this.protocol.exchange(request);
    throwFor(answer);
    const decision = readDecision(answer);
    if (decision instanceof Decision) return decision;
    throw new UnreachableError(
      `whether this ran is not known: ${decision}. Ask again with ` +
        `idempotencyKey: ${JSON.stringify(body["idempotency_key"])}: it does not run twice`,
    );
  }

  /** Takes a snapshot. */
  async take(body: Body, patienceMs: number): Promise<Snapshot> {
    const request = { method: "POST", path: "/v1/snapshots", body, patienceMs, once: true } as const;
    return readSnapshot(await this.protocol.object(request));
  }

  /** One snapshot. */
  async get(snapshot: SnapshotLike): Promise<Snapshot> {
    return readSnapshot(await this.protocol.object({ method: "GET", path: pathOf(snapshot) }));
  }

  /** Snapshots, newest first. */
  async list(query: Record<string, string | undefined>): Promise<Snapshot[]> {
    return (await this.protocol.pages("/v1/snapshots", "snapshots", query)).map(readSnapshot);
  }

  /** Records what the action left. */
  async seal(snapshot: SnapshotLike, patienceMs: number): Promise<Snapshot> {
    const path = `${pathOf(snapshot)}/seal`;
    return readSnapshot(await this.protocol.object({ method: "POST", path, body: {}, patienceMs }));
  }

  /** Puts the records of a snapshot back. */
  async rollback(
    snapshot: SnapshotLike,
    dryRun: boolean,
    onConflict: OnConflict,
    planDigest: string | undefined,
    patienceMs: number,
  ): Promise<RollbackResult> {
    if (!ON_CONFLICT.includes(onConflict)) {
      throw new BadRequestError(
        `onConflict must be one of ${ON_CONFLICT.join(", ")}, not ${String(onConflict)}`,
      );
    }
    const path = `${pathOf(snapshot)}/rollback`;
    const seen = planDigest === undefined ? {} : { plan_digest: exact(planDigest, "planDigest") };
    const body = { dry_run: dryRun, on_conflict: onConflict, ...seen };
    const answer = await this.protocol.exchange({ method: "POST", path, body, patienceMs, once: !dryRun });
    if (answer instanceof Failure && !dryRun) {
      throw new UnreachableError(
        `whether the rollback took place is not known (${answer.cause}); ` +
          `\`checkrein snapshot show ${snapshotId(snapshot)}\` tells`,
      );
    }
    return readRollback(this.protocol.objectIn(answer));
  }
}

function pathOf(snapshot: SnapshotLike): string {
  return `/v1/snapshots/${segment(snapshotId(snapshot))}`;
}

/** The id of what a caller gave for a snapshot: an id, a snapshot, or a decision that has one. */
function snapshotId(snapshot: SnapshotLike): string {
  const found = typeof snapshot === "string" ? snapshot : (snapshot.snapshotId ?? snapshot.id);
  if (found?.startsWith("snp_")) return found;
  throw new BadRequestError(
    `${JSON.stringify(found) ?? "this"} is not the id of a snapshot; it looks like snp_…`,
  );
}

function readSnapshot(found: Found): Snapshot {
  if (typeof found["id"] !== "string") {
    throw new UnreachableError("what answered is not Checkrein: a snapshot without an id");
  }
  return {
    id: found["id"],
    target: text(found["target"]),
    resource: text(found["resource"]),
    sealed: found["sealed"] === true,
    records: count(found["records"]) ?? 0,
    byResource: objects(found["by_resource"]).map((r) => ({
      resource: text(r["resource"]),
      records: count(r["records"]) ?? 0,
    })),
    bytes: count(found["bytes"]) ?? undefined,
    state: text(found["state"]),
    createdAt: optional(found["created_at"]),
    checkId: optional(found["check_id"]),
    raw: found,
  };
}

function readRollback(found: Found): RollbackResult {
  if (typeof found["status"] !== "string") {
    throw new UnreachableError("what answered is not Checkrein: a rollback without a status");
  }
  const plan = isObject(found["plan"]) ? found["plan"] : {};
  return {
    status: found["status"],
    snapshotId: text(found["snapshot_id"]),
    id: optional(found["id"]),
    restored: count(found["restored"]) ?? 0,
    byResource: objects(plan["by_resource"]),
    conflicts: objects(plan["conflicts"]),
    conflictCount: count(plan["conflict_count"]) ?? 0,
    digest: optional(plan["digest"]),
    notes: Array.isArray(plan["notes"]) ? plan["notes"].map(String) : [],
    undoSnapshotId: optional(found["undo_snapshot_id"]),
    raw: found,
  };
}
