// The programs of README.md, each as a file that compiles: what a reader has to fill in is filled in, and a piece of a configuration stands in one.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { root } from '../../scripts/lib/paths.mjs';

const BLOCK = /^```(\w*)\n([\s\S]*?)^```$/gm;

/** A piece of a configuration begins with the name of an option. */
const isPiece = (text) => /^\w+: /.test(text);

/** Free names are those of readme.d.ts. */
function programOf(text) {
  const whole = isPiece(text) ? `new SmartRegistry({\n...config,\n${text.trimEnd().replace(/;$/, '')}\n});\n` : text.replaceAll(/^ {2}\/\/ …$/gm, '  ...config,');
  return `${whole}export {};\n`;
}

/** @returns {Promise<string[]>} */
export async function readmePrograms() {
  const text = await readFile(join(root, 'README.md'), 'utf8');
  const found = [...text.matchAll(BLOCK)].filter(([, language]) => ['js', 'ts', 'javascript', 'typescript'].includes(language)).map(([, , program]) => program);
  assert.ok(found.length >= 8, 'the README has fewer programs than it had: are they marked otherwise?');
  return found.map(programOf);
}
