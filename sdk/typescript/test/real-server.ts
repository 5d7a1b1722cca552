/** The real server in a temporary folder. Tests fail without `$CHECKREIN_BIN`, the binary. */
import { spawn, spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import readline from "node:readline";
import { Checkrein, type CheckreinOptions } from "checkrein";

/** A server that runs, with a store of its own. */
export interface RealServer {
  url: string;
  adminKey: string;
  /** The environment of a program that is to reach it as its admin. */
  env: NodeJS.ProcessEnv;
  /** A client of its admin. */
  admin(changes?: CheckreinOptions): Checkrein;
  /** Runs SQL on a SQLite file in its folder, as somebody else would. */
  sql(file: string, script: string): void;
  /** What a `checkrein` command prints against it. */
  command(...args: string[]): string;
  stop(): Promise<void>;
}

/** Starts a server, with `config` (TOML) if some is given; `{folder}` in it is its folder. */
export async function serve(config?: string): Promise<RealServer> {
  const binary = path.resolve(process.env["CHECKREIN_BIN"] ?? "");
  if (!process.env["CHECKREIN_BIN"]) throw new Error("CHECKREIN_BIN must name the checkrein binary");
  const folder = mkdtempSync(path.join(tmpdir(), "checkrein-test-"));
  const adminKey = `ck_admin_${randomBytes(32).toString("hex")}`;
  const args = ["serve", "--json", "--listen", "127.0.0.1:0", "--data", path.join(folder, "data")];
  // Tests do the same thing over and over, which would open the breaker of any agent.
  const settings = config ?? '[drift]\nmode = "alert"\n';
  writeFileSync(path.join(folder, "checkrein.toml"), settings.replaceAll("{folder}", folder));
  args.push("--config", path.join(folder, "checkrein.toml"));
  const outside = Object.entries(process.env).filter(([name]) => !name.startsWith("CHECKREIN_"));
  const clean = Object.fromEntries(outside);
  const child = spawn(binary, args, {
    env: { ...clean, CHECKREIN_ADMIN_KEY: adminKey },
    cwd: folder,
    stdio: ["ignore", "pipe", "ignore"],
  });
  // A test run that is killed takes the server with it.
  const killed = (): void => void child.kill("SIGKILL");
  process.once("exit", killed);
  const [line] = (await once(readline.createInterface({ input: child.stdout }), "line")) as [string];
  const { listening: url } = JSON.parse(line) as { listening: string };
  const own = { CHECKREIN_URL: url, CHECKREIN_API_KEY: adminKey, CHECKREIN_DATA: path.join(folder, "data") };
  const env = { ...clean, ...own };
  return {
    url,
    adminKey,
    env,
    admin: (changes) => new Checkrein({ url, apiKey: adminKey, timeoutMs: 10_000, ...changes }),
    sql: (file, script) => {
      const program =
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.executescript(sys.argv[2]); c.close()";
      const done = spawnSync("python3", ["-c", program, path.join(folder, file), script], {
        encoding: "utf8",
      });
      if (done.status !== 0) throw new Error(done.stderr);
    },
    command: (...args) => {
      const done = spawnSync(binary, args, { env, encoding: "utf8", timeout: 60_000 });
      if (done.status !== 0) throw new Error(done.stderr);
      return done.stdout;
    },
    stop: async () => {
      process.off("exit", killed);
      child.kill();
      await once(child, "exit");
      rmSync(folder, { recursive: true });
    },
  };
}
