// Made from openapi.json by `npm run types`; do not edit.

/** What travels. */
export interface components {
  schemas: {
    /** Takes what an agent did for normal. */
    AcceptRequest: {
      /** Why; goes on record. 1 to 1,024 bytes. */
      reason: string;
    };
    /** Who answered: from the key, the signed click, the signed link or the sign-in, never from a request's body. */
    Actor: {
      /**
       * The key's id. By Slack: `slack:<workspace>/<user>`. By a link: the id of the key that made the link. By OpenID
       * Connect: `oidc:<issuer>#<subject>`.
       */
      key_id: string;
      /** By a link: the name of the key that made it, who could have opened it as well. */
      made_by?: string | null;
      /** What people call it. By OpenID Connect: `oidc:<name>`. */
      name: string;
      /** What it may do. */
      role: components["schemas"]["Role"];
      /** How they were recognised; absent for a key. */
      via?: components["schemas"]["Via"];
    };
    /** An hour of an agent, with what the baseline of now expects of it. */
    AgentHour: components["schemas"]["AgentRate"] & {
      /** Its beginning. */
      at: string;
    };
    /** A page of agents, by name. */
    AgentPage: {
      /** The agents. */
      agents: Array<components["schemas"]["AgentSummary"]>;
      /** Ask again with `cursor` set to this for the next page; absent on the last one. */
      next_cursor?: string | null;
    };
    /** The actions of an hour. */
    AgentRate: {
      /** Expected in it. */
      expected: number;
      /** The most that raises no doubt. */
      high: number;
      /** Seen in it, so far. */
      seen: number;
    };
    /** An agent that is known. */
    AgentSummary: {
      /** Its name. */
      agent: string;
      /** Where its own breaker stands. */
      breaker: components["schemas"]["BreakerState"];
      /** The group of the configuration that it belongs to. */
      group?: string | null;
      /** When it acted last. */
      last_seen: string;
    };
    /** What is known of an agent. */
    AgentView: {
      /** Its name. */
      agent: string;
      /** Its own breaker. */
      breaker: components["schemas"]["BreakerView"];
      /** Actions expected of each hour of the week, from Monday 00:00 UTC on: 168 figures. */
      expected_by_hour_of_week: Array<number>;
      /** When it acted first, and last; absent while it has not. */
      first_seen?: string | null;
      /** The group of the configuration that it belongs to. */
      group?: string | null;
      /**
       * The hours that were asked for, oldest first; this one is the last. Only those that lie wholly within the newest
       * 100,000 entries of the log, of all agents.
       */
      hours: Array<components["schemas"]["AgentHour"]>;
      /** What is unusual of it now. */
      incidents: Array<components["schemas"]["DriftChannel"]>;
      /** When it acted last. */
      last_seen?: string | null;
      /** It is in its first week. */
      learning: boolean;
      /** What its last 500 actions were, the most frequent first; at most 20 kinds. */
      mix: Array<components["schemas"]["MixShare"]>;
      /** What Checkrein does about its drift: `enforce`, `alert` or `off`. */
      mode: string;
      /** This hour; `seen` at least where `hours` is empty. */
      rate: components["schemas"]["AgentRate"];
      /** Its last 10 checks, newest first. */
      recent: Array<components["schemas"]["CheckView"]>;
    };
    /** A person's answer. */
    Answer: "approve" | "deny";
    /** A person's answer. Who gives it is told by the key. */
    ApprovalDecision: {
      /** Why; at most 4 KiB. */
      comment?: string | null;
      /** Yes or no. */
      decision: components["schemas"]["Answer"];
    };
    /** A page of approvals, newest first. */
    ApprovalPage: {
      /** The approvals; where few pass the filter, possibly fewer than asked for, or none, with more to come. */
      approvals: Array<components["schemas"]["ApprovalView"]>;
      /** Ask again with `cursor` set to this for the next page; absent on the last one. */
      next_cursor?: string | null;
    };
    /** An approval. */
    ApprovalView: {
      /** What, as it was named. */
      action: string;
      /** Who wants to act. */
      agent: string;
      /** How many have. */
      approvals_given: number;
      /** How many people must approve. */
      approvals_required: number;
      /** How much it affects. */
      blast_radius: components["schemas"]["BlastRadius"];
      /** What kind of action. */
      category: components["schemas"]["Category"];
      /** The exact action, as it was sent. */
      check: components["schemas"]["Check"];
      /** The check that was held. */
      check_id: string;
      /** What they said about it. */
      comment?: string | null;
      /** What people said without answering, oldest first. */
      comments?: Array<components["schemas"]["Comment"]>;
      /** When. */
      decided_at?: string | null;
      decided_by?: components["schemas"]["Actor"] | null;
      /** Where. */
      environment: components["schemas"]["Environment"];
      /** When it expires unless it was used. */
      expires_at: string;
      /** What the approval is bound to. */
      fingerprint: components["schemas"]["Fingerprint"];
      /** Where several people must approve: those who have, before the one who settled it. */
      given?: Array<components["schemas"]["Given"]>;
      /** `apr_…`. */
      id: string;
      /** The policies that ask for this approval. */
      policies: Array<string>;
      /** One sentence: why a person is asked. */
      reason: string;
      /** Since when it waits. */
      requested_at: string;
      /** What it is done to. */
      resource: string;
      /** Where it stands. */
      state: components["schemas"]["State"];
      /** When. */
      used_at?: string | null;
      /** The check that it let through. */
      used_by?: string | null;
    };
    /** Where a count comes from. Ordered: the later knows better. */
    Basis: "declared" | "counted" | "measured";
    /** How much an action affects. A `null` count is one that nobody can know. */
    BlastRadius: {
      /** The best that is known of it: `records` is the largest number that any basis gives. */
      basis: components["schemas"]["Basis"];
      /** One entry a resource and way, largest first. */
      by_resource: Array<components["schemas"]["ResourceCount"]>;
      /** The number that the caller stated, if it stated one. */
      declared: number | null;
      /** That number is the number of ids that were given: it says nothing about what follows from them. */
      declared_ids?: boolean;
      /** Addressees of what is sent. */
      recipients?: number | null;
      /** Records changed or removed, cascades included: the largest number that any basis gives. */
      records?: number | null;
      /** Targets and hosts touched. */
      systems?: number | null;
      /**
       * That number is less than half of what a target counted; where it is a number of ids, less than half of
       * what was counted in one resource, without what follows through foreign keys.
       */
      understated?: boolean;
    };
    /** Why a breaker opened. */
    BreakerCause: {
      cause: "drift";
      /** In which way. */
      channel: components["schemas"]["DriftChannel"];
      /** How unusual. */
      score: number;
    } | {
      cause: "blocks";
    } | {
      cause: "errors";
    } | {
      /** The records it affected. */
      actual: number;
      cause: "understated";
      /** The records it declared. */
      declared: number;
    } | {
      /** Who. */
      by: string;
      cause: "person";
      /** What the person says. */
      reason: string;
    } | {
      cause: "damaged";
    };
    /** Breakers that are not closed. */
    BreakerList: {
      /** Those that are open or half-open: that of everything first, then groups, then agents, by name. */
      breakers: Array<components["schemas"]["BreakerView"]>;
    };
    /** Opens or closes a breaker. Who does it is told by the key. */
    BreakerRequest: {
      /** Why; goes on record. 1 to 1,024 bytes. */
      reason: string;
      /** Where it should stand. */
      state: components["schemas"]["BreakerWanted"];
    };
    /** Where a breaker stands. */
    BreakerState: "closed" | "open" | "half_open";
    /** How a breaker stands. */
    BreakerView: {
      cause?: components["schemas"]["BreakerCause"] | null;
      /** The command that closes it. */
      next?: string | null;
      /** Why, for a person. */
      reason?: string | null;
      /** Whose: `agent:NAME`, `group:NAME` or `all`. */
      scope: string;
      /** Since when, unless it is closed. */
      since?: string | null;
      /** Where it stands. */
      state: components["schemas"]["BreakerState"];
      /** While it is open, from when on a few actions may try; absent when only a person closes it. */
      until?: string | null;
    };
    /** What a person wants of a breaker. */
    BreakerWanted: "open" | "closed";
    /** What kind of action it is. Ordered by gravity: of several effects, the gravest names the action. */
    Category: "read" | "write" | "outbound" | "execute" | "delete" | "admin";
    /** A check that would have been answered differently. */
    Change: {
      /** What it did. */
      action: string;
      /** Who acted. */
      agent: string;
      /** When it was decided. */
      at: string;
      /** `chk_…`. */
      check_id: string;
      /** Why, for a person. */
      reason: string;
      /** To what. */
      resource: string;
      /** The verdict that was given. One that a person approved later was still `hold`. */
      was: components["schemas"]["Verdict"];
      /** The verdict that the candidate set would have given. */
      would_be: components["schemas"]["Verdict"];
    };
    /**
     * What a caller sends to `POST /v1/checks`.
     *
     * Explicit form: `action` and `resource`. Raw form: `tool` and `arguments`, which the tool catalogue turns
     * into the explicit one. Exactly one of the two. An unknown field is refused.
     */
    Check: {
      /** Explicit form: what is done, e.g. `update` or `send_email`. */
      action?: string | null;
      /**
       * Who acts. An agent's key speaks for the agents it is bound to and for no other; an operator's or
       * admin's key may name any agent. Absent: the agent of the key, or `default`.
       */
      agent?: string | null;
      /** Raw form: the tool's arguments as the model gave them. */
      arguments?: unknown | null;
      /** The same key from the same caller: the same answer, recorded once. At most 256 bytes. */
      idempotency_key?: string | null;
      /** Parameters of `statement`. */
      params?: Array<unknown> | null;
      /** Explicit form: anything that describes the action. `record_count` in it is the declared count. */
      payload?: unknown | null;
      /** The records affected, strings or numbers; at most 100,000. */
      record_ids?: Array<unknown> | null;
      /** Explicit form: what it is done to, `<target>.<path>` or a URL. */
      resource?: string | null;
      /** The run or conversation that this belongs to; at most 256 bytes. */
      session?: string | null;
      /** The SQL that is about to run, one statement or several. */
      statement?: string | null;
      /** When the caller says that it acts. Recorded; decisions use Checkrein's own clock. */
      timestamp?: string | null;
      /** Raw form: the tool's name as the model called it. */
      tool?: string | null;
      /**
       * Where the caller stands in its own trace (W3C Trace Context); the header `traceparent` says the same. What is
       * malformed is ignored.
       */
      traceparent?: string | null;
      /**
       * Explicit form, in place of `record_ids`: the records affected are those of which every named column
       * has this value, or one of the values of a list; `null` where it has none. Empty: all of them.
       */
      where?: unknown | null;
    };
    /** A page of checks, newest first. */
    CheckPage: {
      /** The checks. */
      checks: Array<components["schemas"]["CheckView"]>;
      /** Ask again with `cursor` set to this for the next page; absent on the last one. */
      next_cursor?: string | null;
    };
    /** A check as it stands now. */
    CheckView: components["schemas"]["Decision"] & {
      /** What, as it was named. */
      action: string;
      /** Who. */
      agent: string;
      /** What was asked, as it was sent. */
      check: components["schemas"]["Check"];
      /** What an approval of it is bound to. */
      fingerprint: components["schemas"]["Fingerprint"];
      outcome?: components["schemas"]["OutcomeReport"] | null;
      /** What it is done to. */
      resource: string;
      /** The entry of the action log that holds it. */
      seq: number;
      /** The run or conversation. */
      session?: string | null;
      /** The tool, in the raw form. */
      tool?: string | null;
      /**
       * For a hold that was approved: the other check that used the approval. That one was let through, so this
       * one must not run any more, and its `verdict` is `block`.
       */
      used_by?: string | null;
    };
    /** What Claude Code is told. Empty: nothing is against it, and its own permissions decide. */
    ClaudeCodeAnswer: {
      hookSpecificOutput?: components["schemas"]["ClaudeCodeDenial"] | null;
    };
    /** Why a call does not run. */
    ClaudeCodeDenial: {
      /** `PreToolUse` */
      hookEventName: string;
      /** `deny` */
      permissionDecision: string;
      /** For Claude and the person who watches it. */
      permissionDecisionReason: string;
    };
    /** What Claude Code sends; fields that are not listed are not looked at. */
    ClaudeCodeHook: {
      /** The subagent that makes the call. */
      agent_id?: string | null;
      /** Where Claude Code stands. A command line is asked about together with it, and paths are taken from there. */
      cwd?: string | null;
      /** Of `PostToolUseFailure`: what went wrong. */
      error?: string | null;
      /** `PreToolUse`, `PostToolUse` or `PostToolUseFailure`. */
      hook_event_name: string;
      /** Of `PostToolUseFailure`: it was broken off. */
      is_interrupt?: boolean | null;
      /** The session on record. */
      session_id: string;
      /** Its arguments. */
      tool_input: unknown;
      /** The tool. */
      tool_name: string;
      /** Claude Code's name for the call, by which the outcome finds its check. */
      tool_use_id: string;
    };
    /** What somebody said without answering. */
    Comment: {
      /** When. */
      at: string;
      /** Who. */
      by: components["schemas"]["Actor"];
      /** What. */
      text: string;
    };
    /** Why a record cannot be restored without harm. */
    ConflictKind: "changed" | "removed" | "replaced" | "unsealed";
    /** A key that was made. `key` is shown this once. */
    CreatedKey: {
      /** The agents that it speaks for. */
      agent?: string | null;
      /** `key_…`. */
      id: string;
      /** The key itself. It is not kept and cannot be shown again. */
      key: string;
      /** What people call it. */
      name: string;
      /** What it may do. */
      role: components["schemas"]["Role"];
    };
    /** The answer to a check, as it is recorded and sent. */
    Decision: {
      /** The approval that a hold waits for. */
      approval_id?: string | null;
      /** How much it affects. */
      blast_radius: components["schemas"]["BlastRadius"];
      /** Where the breaker stands that concerns this agent; absent: `closed`. */
      breaker?: components["schemas"]["BreakerState"];
      /** What kind of action it was taken for. */
      category: components["schemas"]["Category"];
      drift?: components["schemas"]["DriftVerdict"] | null;
      /** Where it would have happened. */
      environment: components["schemas"]["Environment"];
      /** `chk_…`; names the check from now on. */
      id: string;
      /** When this was put on record. */
      logged_at: string;
      /** Every policy that matched, those that decided first. */
      policies: Array<components["schemas"]["Matched"]>;
      /** One sentence for a person: why, and what to do next. */
      reason: string;
      /** The snapshot that was taken of what it touches. */
      snapshot_id?: string | null;
      /** Whether the action may run. Anything but `allow`: do not run it. */
      verdict: components["schemas"]["Verdict"];
    };
    /** A message to a sink. */
    DeliveryView: {
      /** Attempts that were answered, or whose time was over. */
      attempts: number;
      /** How many signals it stands for. */
      count: number;
      /** Why the last attempt failed. */
      error?: string | null;
      /** Receivers may drop repeats by it. */
      id: string;
      /** When it was put into the queue. */
      queued_at: string;
      /** When it was delivered or given up. */
      settled_at?: string | null;
      /** The sink. */
      sink: string;
      /** Where it stands. */
      status: components["schemas"]["Standing"];
    };
    /** One way of departing from what is normal. */
    DriftChannel: "rate" | "burst" | "loop" | "novelty" | "sequence" | "mix" | "records" | "errors";
    /** How grave a score is. */
    DriftSeverity: "notice" | "warning" | "critical";
    /** How far an action departs from what its agent normally does. Told from a score of 5 on. */
    DriftVerdict: {
      /** Where it is seen of all agents of a key together: the pattern that the key stands for. */
      agents?: string | null;
      /** In which way it departs. */
      channel: components["schemas"]["DriftChannel"];
      /** What is normal: a count, or a share for `mix` and `errors`. */
      expected: number;
      /** One sentence for a person. */
      reason: string;
      /** How rare this is on an active day of this agent, in powers of ten, to one decimal: 5 to 12. */
      score: number;
      /** What was seen instead, in the same unit. */
      seen: number;
      /** `notice` from 5, `warning` from 6, `critical` from 7. */
      severity: components["schemas"]["DriftSeverity"];
    };
    /**
     * What a target is for: a property of the target, set by the operator, never by the agent.
     * Ordered by gravity.
     */
    Environment: "sandbox" | "staging" | "production";
    /** Something to run on a target, guarded. Exactly one of `statement` and `statements`. */
    ExecutionRequest: {
      /** Who acts; as in a check. */
      agent?: string | null;
      /** The same key from the same caller: the same answer, run once. At most 256 bytes. */
      idempotency_key?: string | null;
      /** For its placeholders, in order. */
      params?: Array<unknown> | null;
      /** How many records the caller thinks that it changes. */
      record_count?: number | null;
      /** The run or conversation that this belongs to; at most 256 bytes. */
      session?: string | null;
      /** One SQL statement. */
      statement?: string | null;
      /** Several statements, run in one transaction; at most 100. */
      statements?: Array<components["schemas"]["StatementRequest"]> | null;
      /** The target's name, as configured. */
      target: string;
      /** When the caller says that it acts. */
      timestamp?: string | null;
      /**
       * Where the caller stands in its own trace (W3C Trace Context); the header `traceparent` says the same. What is
       * malformed is ignored.
       */
      traceparent?: string | null;
    };
    /** What became of an execution: the decision, and what the statements gave. */
    ExecutionView: components["schemas"]["Decision"] & {
      /** Records that it changed, as measured, cascades and triggers included; 0 when it did not take place. */
      affected: number;
      /** The columns of `rows`, in order. A name that is there twice gets a number: `count`, `count_2`. */
      columns: Array<string>;
      /** Whether it took place: it was read, or committed. */
      executed: boolean;
      /** What each statement gave, where several were sent. */
      results?: Array<components["schemas"]["StatementResult"]>;
      /**
       * The rows of the last statement that returned any, by column. `null` when it did not take place, and
       * for a repeated idempotency key: rows are not kept.
       */
      rows: Array<unknown> | null;
    };
    /**
     * SHA-256 over the canonical form of who does what to what with which payload and statement, in
     * lower-case hexadecimal. Two checks with one fingerprint ask for the same thing.
     */
    Fingerprint: string;
    /** What an action will do to the records of a requested snapshot. */
    Foreseen: "update" | "delete";
    /** One of several people's yes, while others are still to be heard. */
    Given: {
      /** When. */
      at: string;
      /** Who. */
      by: components["schemas"]["Actor"];
      /** What they said about it. */
      comment?: string | null;
    };
    /** A page of grants, newest first. */
    GrantPage: {
      /** The grants; where few pass the filter, possibly fewer than asked for, or none, with more to come. */
      grants: Array<components["schemas"]["GrantView"]>;
      /** Ask again with `cursor` set to this for the next page; absent on the last one. */
      next_cursor?: string | null;
    };
    /** Where a grant stands. */
    GrantState: "open" | "used_up" | "revoked" | "expired";
    /** A grant. */
    GrantView: {
      /** A number that only the agent states is enough. */
      accept_declared: boolean;
      /** What it may do. */
      action: string;
      /** The one agent that it is for. */
      agent: string;
      /** When it ends. */
      expires_at: string;
      /** When. */
      given_at: string;
      /** Who gave it. */
      given_by: components["schemas"]["Actor"];
      /** `grt_…`. */
      id: string;
      /** When. */
      last_used_at?: string | null;
      /** The check that used it last. */
      last_used_by?: string | null;
      /** Records that all uses together affect at most. */
      max_records: number;
      /** How often it can be used. */
      max_uses?: number | null;
      /** Why it was given. */
      reason: string;
      /** Records that its uses affected, together. */
      records_used: number;
      /** To what. */
      resource: string;
      /** When. */
      revoked_at?: string | null;
      revoked_by?: components["schemas"]["Actor"] | null;
      /** Where it stands. */
      state: components["schemas"]["GrantState"];
      /** How often it was used. */
      uses: number;
    };
    /** Whether the server can do its work. */
    Health: {
      /** `ok`, or what is wrong. */
      status: string;
      /** Of Checkrein. */
      version: string;
    };
    /** How many records of one resource a snapshot holds. */
    Held: {
      /** Records; those that did not exist before count too. */
      records: number;
      /** `<target>.<path>`. */
      resource: string;
    };
    /** How a record comes to be affected. */
    How: "read" | "insert" | "update" | "delete" | "cascade" | "unlink";
    /** All keys that are in force. */
    KeyList: {
      /** The keys. */
      keys: Array<components["schemas"]["KeyView"]>;
    };
    /** A key, without its secret. */
    KeyView: {
      /** The agents that it speaks for. */
      agent?: string | null;
      /** `key_…`. */
      id: string;
      /** What people call it. */
      name: string;
      /** What it may do. */
      role: components["schemas"]["Role"];
    };
    /** The form of the page behind a signed link. */
    LinkAnswer: {
      /** Why; at most 4 KiB. */
      comment?: string | null;
      /** Yes or no. */
      decision: components["schemas"]["Answer"];
    };
    /** A link by which somebody can answer an approval. */
    LinkView: {
      /** When it ends. */
      expires_at: string;
      /** For whom. */
      for: string;
      /** The address without the server: `/approve/…`. */
      path: string;
      /** The whole address, where the server knows its own (`server.public_url`). */
      url?: string | null;
    };
    /** What LiteLLM is told. */
    LitellmAnswer: {
      /** `NONE`: nothing is against it; `BLOCKED`: neither the response nor any call in it gets through. */
      action: string;
      /** Why, for the model and whoever runs it. */
      blocked_reason?: string | null;
    };
    /** What LiteLLM sends; fields that are not listed are not looked at. */
    LitellmGuardrail: {
      /** `wait`: how long a hold is waited for, e.g. `30s`; at most 600 s, and less than LiteLLM's time-out. */
      additional_provider_specific_params?: unknown | null;
      /** `response`: what the model said; `request`: what it is about to be told. */
      input_type?: string | null;
      /** The session on record. */
      litellm_trace_id?: string | null;
      /** Of a request: the conversation. A call whose result is in it has run, and is not checked again. */
      structured_messages?: Array<unknown> | null;
      /** The tool calls in it, in OpenAI's form. */
      tool_calls?: Array<unknown> | null;
      /** Of a request: the tools that it offers. */
      tools?: Array<unknown> | null;
    };
    /** A policy that matched. */
    Matched: {
      /** The `allow` policy, named in this one's `except`, that took its effect away. */
      exempted_by?: string | null;
      /** `shadow`: reported, without effect on the verdict. */
      mode: components["schemas"]["Mode"];
      /** The policy's name. */
      name: string;
      /** Why it matched, for a person: `update on production.users touches 10000 records, over 25`. */
      reason: string;
      /** What it asks for. */
      rule: components["schemas"]["Rule"];
    };
    /** Which signals: all that is said must hold. */
    Matcher: {
      /** About this agent. One that is about none does not match. */
      agent?: string | null;
      environment?: components["schemas"]["Environment"] | null;
      /** Of one of these kinds; `*` matches any run of characters. Of any, when empty. */
      kinds?: Array<string>;
      /** With such a policy behind it. */
      policy?: string | null;
      severity_at_least?: components["schemas"]["Severity"] | null;
      severity_at_most?: components["schemas"]["Severity"] | null;
    };
    /** A kind of action, among an agent's last 500. */
    MixShare: {
      /** The action. */
      action: string;
      /** 0 to 1. */
      share: number;
      /** The tool, in the raw form. */
      tool?: string | null;
    };
    /** Whether a policy takes effect. */
    Mode: "enforce" | "shadow";
    /** Something said about an approval, without answering it. */
    NewComment: {
      /** What; 1 byte to 4 KiB. */
      text: string;
    };
    /** A yes beforehand, to be given. */
    NewGrant: {
      /** A number that only the agent states is enough, where nobody can count. */
      accept_declared?: boolean;
      /** What it may do; `*` stands for any run of characters. */
      action: string;
      /** The one agent that it is for. */
      agent: string;
      /** How long it lasts: `30m`, `1h`, `7d` at most. */
      for: string;
      /** Records (recipients, where they are more) that all uses together affect at most; at least 1. */
      max_records: number;
      /** How often it can be used; without it, until its records are spent. */
      max_uses?: number | null;
      /** Why; 1 byte to 4 KiB. */
      reason: string;
      /** To what; `*` as above. */
      resource: string;
    };
    /** A key to be made. */
    NewKey: {
      /** For role `agent`, required: the agent that it speaks for, or a pattern (`billing-*`). */
      agent?: string | null;
      /** What people call it, 1 to 128 bytes. */
      name: string;
      /** What it may do. */
      role: components["schemas"]["Role"];
    };
    /** A link by which somebody can answer an approval, to be made. */
    NewLink: {
      /** For whom: the name that the answer goes on record under. */
      for: string;
      /** How long it is good, e.g. `1h`; without it, and at most, as long as the approval waits. */
      lasting?: string | null;
    };
    /** A silence to be made. */
    NewSilence: {
      /** Why, 1 to 1,024 bytes. */
      comment: string;
      /** About what. Empty: about everything. */
      matcher?: components["schemas"]["Matcher"];
      /** When it ends; at most 30 days from now. */
      until: string;
    };
    /** What to do about records that somebody changed since. */
    OnConflict: "refuse" | "skip" | "force";
    /** Why a snapshot was taken. */
    Origin: "requested" | "automatic" | "execution" | "rollback";
    /** What became of an action. */
    OutcomeReport: {
      /** What went wrong; cut at 4 KiB. */
      error?: string | null;
      /** Records really affected. */
      records?: number | null;
      /** How it ended. */
      status: components["schemas"]["OutcomeStatus"];
    };
    /** How an action ended. */
    OutcomeStatus: "ok" | "error" | "unknown";
    /** A set of policies. */
    PolicyBundle: {
      /** Each one whole. */
      policies: Array<unknown>;
    };
    /** What applying a set changed, by name. */
    PolicyChanges: {
      /** New ones. */
      created: Array<string>;
      /** Those that were not in the set. */
      deleted: Array<string>;
      /** Those with other content than before. */
      replaced: Array<string>;
      /** Those that stayed. */
      unchanged: Array<string>;
    };
    /** The policies in force. */
    PolicyList: {
      /** Each one whole, as `POST /v1/policies` takes it. */
      policies: Array<unknown>;
      /** Where each comes from: `api`, or the path of a file. Those from files cannot be changed here. */
      sources?: Record<string, string>;
    };
    /** An error, as RFC 9457 describes it. `type` is stable; match on it, not on the text. */
    Problem: {
      /** The check that put the attempt on record, where there is one. */
      check_id?: string | null;
      /** Of `statement-failed`: the database's own code, such as a SQLSTATE. */
      code?: string | null;
      /** Of `rollback-conflicts`: how many there are. */
      conflict_count?: number | null;
      /** Of `rollback-conflicts`: what somebody changed since; the first 200. */
      conflicts?: Array<components["schemas"]["RollbackConflict"]>;
      /** What is wrong with this request, and what to do next. */
      detail: string;
      /** Several mistakes, where there are several. */
      errors?: Array<components["schemas"]["ProblemItem"]>;
      plan?: components["schemas"]["RollbackPlan"] | null;
      /** The same as in the header `x-request-id`. */
      request_id: string;
      /** The HTTP status. */
      status: number;
      /** The kind of problem in a few words. */
      title: string;
      /** `https://checkrein.dev/problems/<word>`; the word never changes its meaning. */
      type: string;
    };
    /** One mistake of several. */
    ProblemItem: {
      /** What is wrong. */
      message: string;
      /** Where in it, e.g. `condition.any_of[1].resource_pattern`; empty for the whole. */
      path: string;
      /** Where: a policy's name, or a field. */
      subject: string;
    };
    /** What was learnt anew. */
    RebuildReport: {
      /** Actions of theirs in the log. */
      actions: number;
      /** Agents. */
      agents: number;
    };
    /** Learns from the action log anew. */
    RebuildRequest: {
      /** What this agent normally does; absent: what all do. */
      agent?: string | null;
    };
    /** What would have changed, action by action and in sum. */
    ReplayReport: {
      /** How many changed in which way: `{"allow→block": 3}`. */
      by_change: Record<string, number>;
      /**
       * How many checks each policy of the candidate set matched, shadows and exempted ones too; 0 for one
       * that never did.
       */
      by_policy: Record<string, number>;
      /** Those among them with another verdict. */
      changed: number;
      /** The first ones that changed; at most 1,000. */
      changes: Array<components["schemas"]["Change"]>;
      /** Recorded checks that were judged again. */
      checked: number;
      /** When the first and the last of the checks were made. */
      from?: string | null;
      /** What a reader must know to trust the figures. */
      notes: Array<string>;
      /** When the last of them was made. */
      to?: string | null;
    };
    /** A candidate set to replay on the recorded past. Without `policies`: the set in force. */
    ReplayRequest: {
      /** The candidate set, whole. */
      policies?: Array<unknown> | null;
      /** Only checks at or after this. */
      since?: string | null;
      /** Only checks before this. */
      until?: string | null;
    };
    /** A resource's share of a blast radius. */
    ResourceCount: {
      how?: components["schemas"]["How"] | null;
      /** Records in it; `null` when nobody can know. */
      records?: number | null;
      /** The resource. */
      resource: string;
    };
    /** What a key may do. Ordered: each may do what the ones before it may. */
    Role: "agent" | "operator" | "admin";
    /** A record that somebody worked on since. */
    RollbackConflict: {
      /** As the action left it; `null` when it removed it, or that is not known. */
      after: unknown | null;
      /** The record before the action; `null` when it did not exist. */
      before: unknown | null;
      /** Its key, by column. */
      key: unknown;
      /** Why it is one. */
      kind: components["schemas"]["ConflictKind"];
      /** As it is now; `null` when it is gone. */
      now: unknown | null;
      /** `<target>.<path>`. */
      resource: string;
    };
    /** How a rollback went. */
    RollbackOutcome: "done" | "nothing" | "planned";
    /** What a rollback changes. */
    RollbackPlan: {
      /** One entry a resource. */
      by_resource: Array<components["schemas"]["Steps"]>;
      /** All of them. */
      conflict_count: number;
      /** Records that somebody worked on since; the first 200. */
      conflicts: Array<components["schemas"]["RollbackConflict"]>;
      /** Names all conflicts as they are here, shown or not, for `plan_digest` of the rollback itself. */
      digest?: string;
      /** What else a person should know. */
      notes: Array<string>;
    };
    /** Where a rollback stands. */
    RollbackProgress: "running" | "done" | "not_done" | "unknown";
    /** A rollback to be done. */
    RollbackRequest: {
      /** Only say what it would do. */
      dry_run?: boolean;
      /** What to do about records that somebody changed since. */
      on_conflict?: components["schemas"]["OnConflict"];
      /**
       * The `digest` of the plan that a person has looked at. If what stands against the rollback is something
       * else by now, nothing is changed, and the answer is 409 with the plan as it is.
       */
      plan_digest?: string | null;
    };
    /** How far the last rollback of a snapshot is. */
    RollbackStanding: {
      /** Records handled. */
      done: number;
      /** `rbk_…`. */
      id: string;
      /** Where it stands. */
      state: components["schemas"]["RollbackProgress"];
      /** Records to handle; 0 while that is unknown. */
      total: number;
    };
    /** What became of a rollback, or would. */
    RollbackView: {
      /** Whether it was only planned. */
      dry_run: boolean;
      /** `rbk_…`; absent where nothing was done. */
      id?: string | null;
      /** The same by resource, with what stands against it. */
      plan: components["schemas"]["RollbackPlan"];
      /** Records put back, changed back or removed; those that would be, in a dry run. */
      restored: number;
      /** What it rolls back. */
      snapshot_id: string;
      /** How it went. */
      status: components["schemas"]["RollbackOutcome"];
      /** The snapshot that undoes this rollback. */
      undo_snapshot_id?: string | null;
    };
    /** What a policy asks for. Ordered by precedence: the later wins. */
    Rule: "allow" | "alert" | "require_approval" | "block";
    /** Some of the records that a held action would touch, as they were when this was read. Kept nowhere. */
    SampleView: {
      /** `apr_…`. */
      approval_id: string;
      /** When they were read. */
      read_at: string;
      /** By resource: those that the action names first, then what follows from those that were looked at. */
      resources: Array<components["schemas"]["SampledResource"]>;
    };
    /** Some records of one resource. */
    SampledResource: {
      /** The first 30 columns, by name. */
      columns: Array<string>;
      /** `<target>.<path>`. */
      resource: string;
      /**
       * At most 10 records, each a list in the order of the columns. Texts end with `…` after 200 characters;
       * what is configured or known as a secret reads `[redacted]`.
       */
      rows: Array<Array<unknown>>;
    };
    /**
     * The moment in which after-images were added to a snapshot. What others changed between the snapshot and
     * this moment looks like the action's own work.
     */
    Seal: {
      /** When. */
      at: string;
      /** The key that asked for it. */
      key_id: string;
    };
    /** How bad it is. Ordered: the later is the worse. */
    Severity: "info" | "notice" | "warning" | "critical";
    /**
     * Something that a team must know.
     *
     * Its texts come from agents where they name an action, a resource or a tool: each sink escapes them for its
     * medium. They were redacted before they came here.
     */
    Signal: {
      /** What it wanted to do. */
      action?: string | null;
      /** Whose action it is about. */
      agent?: string | null;
      /** The approval. */
      approval_id?: string | null;
      /** When it happened. */
      at: string;
      blast_radius?: components["schemas"]["BlastRadius"] | null;
      /** Who did it, where a person did: their name. */
      by?: string | null;
      category?: components["schemas"]["Category"] | null;
      /** The check. */
      check_id?: string | null;
      /**
       * What condition it is about; the same for every signal of that condition and for the one that resolves it.
       * At most 200 bytes of ASCII without spaces.
       */
      condition: string;
      environment?: components["schemas"]["Environment"] | null;
      /** `sig_<entry>` or, where one entry causes several, `sig_<entry>_<n>`: the same again from the same log. */
      id: string;
      /** `action.blocked`, `breaker.opened`, …: DESIGN's kinds, dotted. */
      kind: string;
      /** The command that a person would type next, e.g. `checkrein approvals show apr_…`. */
      next?: string | null;
      /** The policies behind it, those that decided first. */
      policies?: Array<string>;
      /** To what. */
      resource?: string | null;
      /** The rollback. */
      rollback_id?: string | null;
      /** Its session. */
      session?: string | null;
      /** How bad it is. */
      severity: components["schemas"]["Severity"];
      /** The snapshot. */
      snapshot_id?: string | null;
      /** Whether it still holds. */
      status: components["schemas"]["Status"];
      /** One sentence for a person. */
      summary: string;
      /** With which tool. */
      tool?: string | null;
    };
    /** A page of signals, newest first. */
    SignalPage: {
      /** Ask again with `cursor` set to this for the next page; absent on the last one. */
      next_cursor?: string | null;
      /** The signals. */
      signals: Array<components["schemas"]["SignalView"]>;
    };
    /** Where a signal is to be sent again. */
    SignalReplay: {
      /**
       * To this sink. Without it: its messages that were given up are tried again, or, where there is none, it goes
       * to where the routes lead now.
       */
      sink?: string | null;
    };
    /** What is sent again. */
    SignalReplayed: {
      /** Sinks that it is sent to anew. */
      sent_to: Array<string>;
      /** Messages that were given up and wait again. */
      tried_again: number;
    };
    /** A signal and what became of it. */
    SignalView: components["schemas"]["Signal"] & {
      /** The messages that speak for it, oldest first. None: no route took it, or it was silenced. */
      deliveries: Array<components["schemas"]["DeliveryView"]>;
    };
    /** The silences. Windows of every week are in the configuration only. */
    SilenceList: {
      /** Those that end first come first. */
      silences: Array<components["schemas"]["SilenceView"]>;
    };
    /** A silence that is in force, or will be. */
    SilenceView: {
      /** Why. */
      comment: string;
      /** From then on. */
      from: string;
      /** `sil_…`. */
      id: string;
      /** About what. */
      matcher: components["schemas"]["Matcher"];
      /** Who wants it. */
      owner: string;
      /** Until then. */
      until: string;
    };
    /** An example that was sent to a sink. */
    SinkExample: {
      /** Why not, and what to do about it. */
      error?: string | null;
      /** The kind of the signal, or `record` for one of the stream of all actions. */
      kind: string;
      /** Whether it arrived. */
      ok: boolean;
    };
    /** The sinks. */
    SinkList: {
      /** By name. */
      sinks: Array<components["schemas"]["SinkView"]>;
    };
    /** What a test of a sink found. */
    SinkReport: {
      /** Each example that was sent. */
      examples: Array<components["schemas"]["SinkExample"]>;
      /** Whether all arrived. */
      ok: boolean;
    };
    /** A sink, and how it is. Numbers count since the server started, where nothing else is said. */
    SinkView: {
      /** Whether it takes the stream of all actions. */
      actions: boolean;
      /** `closed`: it is used; `open`: it is left alone after failures; `probing`: it is tried with one message. */
      circuit: string;
      /** Messages given up. */
      dead: number;
      /** Messages delivered. */
      delivered: number;
      /** Attempts that failed. */
      failed: number;
      /** Whether it counts as failing. */
      failing: boolean;
      /** `slack`, `pagerduty`, … */
      kind: string;
      /** When a message or a batch was last delivered. */
      last_delivered_at?: string | null;
      /** Why. */
      last_error?: string | null;
      /** When an attempt last failed. */
      last_error_at?: string | null;
      /** Its name. */
      name: string;
      /** Messages that wait now. */
      queued: number;
      /** Records of the stream of all actions that were sent. */
      records: number;
      /** How many entries of the log are still to be sent, where it takes the stream of all actions. */
      records_behind?: number | null;
      /** Records that were refused for good, or removed from the log before they could be sent. */
      records_lost: number;
      /** Whether it takes signals. */
      signals: boolean;
    };
    /** A page of snapshots, newest first. */
    SnapshotPage: {
      /** Ask again with `cursor` set to this for the next page; absent on the last one. */
      next_cursor?: string | null;
      /** The snapshots; where few pass the filter, possibly fewer than asked for, or none, with more to come. */
      snapshots: Array<components["schemas"]["SnapshotView"]>;
    };
    /** A snapshot to be taken. Exactly one of `record_ids`, `where` and `statement`. */
    SnapshotRequest: {
      /** What will be done to them. */
      action?: components["schemas"]["Foreseen"];
      /** Whose action it is for; as in a check. */
      agent?: string | null;
      /** The check that it belongs to. */
      check_id?: string | null;
      /** For its placeholders. */
      params?: Array<unknown> | null;
      /** The records with these primary keys; at most 100,000. */
      record_ids?: Array<unknown> | null;
      /** Of what: `<target>.<path>`; the target alone for a `statement`. */
      resource: string;
      /** The run or conversation; at most 256 bytes. */
      session?: string | null;
      /** The records that this statement would change. */
      statement?: string | null;
      /** The records of which every named column has this value, or one of a list. Empty: all. */
      where?: unknown | null;
    };
    /** Where a snapshot stands. */
    SnapshotStanding: "live" | "removed";
    /** A snapshot. */
    SnapshotView: {
      /** Whose action it belongs to. */
      agent: string;
      /** The same by resource, largest first. */
      by_resource: Array<components["schemas"]["Held"]>;
      /** Size of its files. */
      bytes: number;
      /** The check that it belongs to. */
      check_id?: string | null;
      /** When it was taken. */
      created_at: string;
      /** `snp_…`. */
      id: string;
      /** Why it was taken. */
      origin: components["schemas"]["Origin"];
      /** Records in it, those that did not exist before included. */
      records: number;
      /** Why it is gone. */
      removed_because?: string | null;
      /** What it is of. */
      resource: string;
      rollback?: components["schemas"]["RollbackStanding"] | null;
      seal?: components["schemas"]["Seal"] | null;
      /** Until when it can be sealed. After that it stays unsealed. Absent once it is sealed or gone. */
      seal_until?: string | null;
      /**
       * Whether it holds what the action left, too. Without that a rollback cannot tell the action's work
       * from somebody else's.
       */
      sealed: boolean;
      /** The run or conversation. */
      session?: string | null;
      /** Whether it can be used. */
      state: components["schemas"]["SnapshotStanding"];
      /** The target's name. */
      target: string;
    };
    /** Where a message stands. */
    Standing: "queued" | "delivered" | "dead";
    /** Where an approval stands. */
    State: "pending" | "approved" | "denied" | "expired" | "withdrawn";
    /** One statement of several. */
    StatementRequest: {
      /** For its placeholders, in order. */
      params?: Array<unknown> | null;
      /** One SQL statement. */
      statement: string;
    };
    /** What one statement of several gave. */
    StatementResult: {
      /** Rows that the statement itself says it changed or returned. */
      affected: number;
      /** In order; empty when it returns no rows. */
      columns: Array<string>;
      /** By column. */
      rows: Array<unknown>;
    };
    /** Whether what a signal is about still holds. */
    Status: "firing" | "resolved";
    /** What a rollback does to the records of one resource. */
    Steps: {
      /** Records that somebody has worked on since. */
      conflicts: number;
      /** Records to remove that the action made. */
      delete: number;
      /** Records to put back that are gone. */
      insert: number;
      /** Records that are already as they were. */
      keep: number;
      /** `<target>.<path>`. */
      resource: string;
      /** Records to give back their old content. */
      update: number;
    };
    /** The targets that the server is connected to. */
    TargetList: {
      /** By name. */
      targets: Array<components["schemas"]["TargetView"]>;
    };
    /** One thing that Checkrein needs of a target. */
    TargetPrivilege: {
      /** What was found, and what to do if it is not there. */
      message: string;
      /** What for: `count`, `execute`, `snapshot`, `rollback`. */
      needed_for: string;
      /** Whether it is there. */
      ok: boolean;
    };
    /** What a test of a target found. */
    TargetReport: {
      /** Why it cannot be used at all, and what to do about it. */
      error?: string | null;
      /** Whether it can be reached and everything that Checkrein needs is there. */
      ok: boolean;
      /** Each thing that was looked at. */
      privileges: Array<components["schemas"]["TargetPrivilege"]>;
      /** What answers there, e.g. `PostgreSQL 15.18`; `null` when nothing does. */
      system: string | null;
    };
    /** A target. */
    TargetView: {
      /** What it is for. */
      environment: components["schemas"]["Environment"];
      /** `postgres`, `mysql`, `sqlite` or `files`. */
      kind: string;
      /** The first part of its resources' names. */
      name: string;
    };
    /** Whether the action may run. Ordered: the stricter is the greater. */
    Verdict: "allow" | "hold" | "block";
    /** How a person was recognised. */
    Via: "key" | "slack" | "link" | "oidc";
  };
}
