// An application of `examples/` as somebody has it who copied its folder: with the packages that its package.json names, and no others.
import assert from 'node:assert/strict';
import { cp, mkdir, readFile, symlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { root } from '../../scripts/lib/paths.mjs';
import { startServer } from './process.mjs';

/** Where this checkout has a package under another name. */
const aliases = { express: 'express5' };

const manifestOf = async (folder) => JSON.parse(await readFile(join(folder, 'package.json'), 'utf8'));

/** Copies the application and puts this checkout's packages into its `node_modules`. */
async function install(name, folder) {
  await cp(join(root, 'examples', name), folder, { recursive: true });
  const { scripts, dependencies } = await manifestOf(folder);
  for (const [dependency, range] of Object.entries(dependencies)) {
    const target = dependency === 'smartregistry-native' ? root : join(root, 'node_modules', aliases[dependency] ?? dependency);
    const { version } = await manifestOf(target);
    assert.equal(range, `^${version}`, `examples/${name}/package.json names another ${dependency} than the one that is tested`);
    const link = join(folder, 'node_modules', dependency);
    await mkdir(dirname(link), { recursive: true });
    await symlink(target, link);
  }
  return scripts;
}

/**
 * Starts an application in a copy of its folder, by one of the scripts of its package.json.
 *
 * @param {string} name its folder in `examples/`
 * @param {string} script
 * @param {{ folder: (name: string) => Promise<string>, env: Record<string, string> }} box
 * @param {Record<string, string>} settings further environment
 */
export async function startExample(name, script, box, settings) {
  const folder = await box.folder('app');
  const scripts = await install(name, folder);
  const [node, ...args] = scripts[script].split(' ');
  assert.equal(node, 'node');
  return startServer([process.execPath, ...args], { cwd: folder, env: { ...box.env, PORT: '0', ...settings }, ready: /listening on (http:\/\/127\.0\.0\.1:(\d+))/ });
}
