// `npm run lint`: everything that reads the code without running it. Each check runs even when one before it failed.
import { existsSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { client } from './clients.mjs';
import { outdated } from './docs.mjs';
import { nodeModules } from './lib/node-modules.mjs';
import { cargoTarget, root } from './lib/paths.mjs';
import { run, say, script } from './lib/run.mjs';

const env = { ...process.env, CARGO_TARGET_DIR: cargoTarget };

await script(async () => {
  await nodeModules({ dev: true });
  const checks = {
    'cargo fmt': formatting,
    'cargo clippy': () => cargo('clippy', '--locked', '--all-targets', '--features', 's3-tests', '--quiet', '--', '-D', 'warnings'),
    'cargo clippy without node': () => cargo('clippy', '--locked', '--all-targets', '--no-default-features', '--quiet', '--', '-D', 'warnings'),
    'cargo deny': deny,
    tsc: typescript,
    'docs/api': reference,
    'no registry in package-lock.json': lockFile,
    actionlint: workflows,
  };
  let failed = 0;
  for (const [name, check] of Object.entries(checks)) {
    const result = await check();
    if (!result) continue;
    say(`${result.code === 0 ? 'ok' : 'FAILED'}: ${name}`);
    if (result.code !== 0) {
      failed += 1;
      say(result.output.trimEnd());
    }
  }
  return failed ? 1 : 0;
});

function cargo(...args) {
  return run('cargo', args, { env, allowFailure: true });
}

/** The protocols are declared by a macro, behind which cargo finds no files: they are named to it. */
async function formatting() {
  const folder = join(root, 'src', 'protocols');
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile() && entry.name.endsWith('.rs')).map((entry) => join(entry.parentPath ?? entry.path, entry.name));
  return cargo('fmt', '--check', '--', ...files);
}

/** Licences, doubled crates and sources. Advisories are left out: their data base is a git repository, which not every machine reaches. */
async function deny() {
  if (!existsSync(join(root, 'deny.toml'))) return undefined;
  const { argv } = await client('cargo-deny');
  // It looks at the crates of every platform, of which a build fetches only its own.
  await run('cargo', ['fetch', '--locked', '--quiet'], { env });
  return run(argv[0], ['--offline', 'check', '--hide-inclusion-graph', 'licenses', 'bans', 'sources'], { env, allowFailure: true });
}

/** The hand-written types against the facade and against the programs of the type tests. */
async function typescript() {
  const project = ['tsconfig.json', '__test__/types/tsconfig.json'].map((name) => join(root, name)).find(existsSync);
  if (!project) return undefined;
  return run(join(root, 'node_modules', '.bin', 'tsc'), ['--noEmit', '--project', project], { allowFailure: true });
}

/** The reference is committed, so that it can be read where the code is. */
async function reference() {
  const output = await outdated();
  return { code: output ? 1 : 0, output };
}

/** A lock file that names a registry breaks everybody who uses another. */
async function lockFile() {
  const { packages } = JSON.parse(await readFile(join(root, 'package-lock.json'), 'utf8'));
  const named = Object.entries(packages).filter(([, entry]) => entry.resolved).map(([path]) => path);
  return { code: named.length ? 1 : 0, output: `these entries name where they came from: ${named.join(', ')}` };
}

/** What a workflow says is seen by nobody until it runs. */
async function workflows() {
  const { argv } = await client('actionlint');
  const folder = join(root, '.github', 'workflows');
  return run(argv[0], (await readdir(folder)).map((name) => join(folder, name)), { allowFailure: true });
}
