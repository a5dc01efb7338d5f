// Finds the test files of a checkout, by the names that tstest goes by: `test.npm.ts`, `test.npm.node+bun+deno.ts`, `test.ui.chrome.ts`.
import { readdir } from 'node:fs/promises';
import { basename, join } from 'node:path';

const runtimes = ['node', 'deno', 'bun', 'chrome', 'chromium', 'browser', 'both', 'all'];
const withNode = ['node', 'both', 'all'];

/**
 * @param {string} checkout
 * @param {string[]} only parts of names; without any, all files
 * @returns {Promise<{ files: string[], others: string[] }>} those that Node runs, and those for other runtimes only
 */
export async function testFiles(checkout, only) {
  const entries = await readdir(join(checkout, 'test'), { recursive: true, withFileTypes: true });
  const tests = entries
    .filter((entry) => entry.isFile() && /^test\..*\.m?ts$|^test\.m?ts$/.test(entry.name) && !entry.name.endsWith('.d.ts'))
    .map((entry) => join(entry.parentPath ?? entry.path, entry.name))
    .filter((file) => only.length === 0 || only.some((part) => file.slice(checkout.length).includes(part)))
    .sort();
  return { files: tests.filter(runsOnNode), others: tests.filter((file) => !runsOnNode(file)) };
}

function runsOnNode(file) {
  const last = basename(file).split('.').at(-2).split('+');
  return !last.every((word) => runtimes.includes(word)) || last.some((word) => withNode.includes(word));
}
