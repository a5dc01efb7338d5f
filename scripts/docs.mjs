// `npm run docs`: writes docs/api, the reference that is made from index.d.ts. `npm run lint` fails where it is not what would be written.
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { nodeModules } from './lib/node-modules.mjs';
import { root } from './lib/paths.mjs';
import { run, say, script } from './lib/run.mjs';

const folder = join(root, 'docs', 'api');

const generate = (out) => run(process.execPath, [join(root, 'node_modules/typedoc/bin/typedoc'), '--logLevel', 'Warn', '--treatWarningsAsErrors', '--out', out]);

/** What is wrong with docs/api; empty if it is up to date. */
export async function outdated() {
  const out = await mkdtemp(join(tmpdir(), 'smartregistry-docs-'));
  try {
    await generate(out);
    const [fresh, there] = await Promise.all([out, folder].map((dir) => readdir(dir).catch(() => [])));
    const differing = [];
    for (const name of new Set([...fresh, ...there])) {
      const [a, b] = await Promise.all([out, folder].map((dir) => readFile(join(dir, name), 'utf8').catch(() => undefined)));
      if (a !== b) differing.push(name);
    }
    return differing.length ? `docs/api is not what index.d.ts says (${differing.join(', ')}); run: npm run docs` : '';
  } finally {
    await rm(out, { recursive: true, force: true });
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  await script(async () => {
    await nodeModules({ dev: true });
    await generate(folder);
    say(`wrote ${folder.slice(root.length + 1)}`);
  });
}
