// The programs of the replaced package's README (__test__/types/snippets) as JavaScript that runs: types gone, and what a reader has to put in put in.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import ts from 'typescript';

const folder = new URL('../types/snippets/', import.meta.url);

/**
 * Free names of a snippet are globals: whoever runs it sets them first. A CommonJS one runs when it is required, and `done` is its promise.
 *
 * @param {string} name
 * @param {Record<string, string>} [values] what stands in the text, and what a reader would write in its place
 * @param {'esm' | 'commonjs'} [form]
 */
export async function snippet(name, values = {}, form = 'esm') {
  let text = await readFile(new URL(`${name}.mts`, folder), 'utf8');
  for (const [from, to] of Object.entries(values)) {
    assert.ok(text.includes(from), `${name} has no ${from}`);
    text = text.replaceAll(from, () => to);
  }
  const module = form === 'esm' ? ts.ModuleKind.ESNext : ts.ModuleKind.CommonJS;
  const { outputText } = ts.transpileModule(text, { compilerOptions: { module, target: ts.ScriptTarget.ES2022, esModuleInterop: true } });
  return form === 'esm' ? outputText : `exports.done = (async () => {\n${outputText}\n})();\n`;
}

/** The S3 descriptor of the quick start, and that of a server that is here. */
export const descriptorOf = ({ accessKey, accessSecret, endpoint, port, useSsl, region, bucketName }) => ({
  "'your-s3-key'": JSON.stringify(accessKey),
  "'your-s3-secret'": JSON.stringify(accessSecret),
  "'s3.example.com'": JSON.stringify(endpoint),
  'port: 443': `port: ${port}`,
  'useSsl: true': `useSsl: ${useSsl}`,
  "'us-east-1'": JSON.stringify(region),
  "bucketName: 'my-registry'": `bucketName: ${JSON.stringify(bucketName)}`,
});
