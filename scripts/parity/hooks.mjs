// Module hooks: imports of the checkout's own sources lead to this package, and TypeScript loses its types.
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';

/** The package that the checkout is of. */
const PACKAGE = '@push.rocks/smartregistry';

/** Folders of a checkout with its sources, as they are and built. */
const SOURCES = ['ts/', 'dist_ts/'];

/** What decides how TypeScript becomes JavaScript; everything else of a tsconfig.json is about checking. */
const SEMANTICS = ['experimentalDecorators', 'useDefineForClassFields', 'verbatimModuleSyntax'];

/** @type {{ checkout: string, self: string, substitutes: Record<string, string> }} */
let setting;
let compilerOptions;

export function initialize(data) {
  setting = data;
  compilerOptions = {
    ...semanticsOf(fileURLToPath(new URL('tsconfig.json', data.checkout))),
    module: ts.ModuleKind.ESNext,
    target: ts.ScriptTarget.ES2022,
    inlineSourceMap: true,
    inlineSources: true,
  };
}

function semanticsOf(file) {
  if (!existsSync(file)) return {};
  const { config } = ts.readConfigFile(file, ts.sys.readFile);
  const given = Object.entries(config?.compilerOptions ?? {}).filter(([name]) => SEMANTICS.includes(name));
  return Object.fromEntries(given);
}

export async function resolve(specifier, context, next) {
  if (specifier === PACKAGE || specifier.startsWith(`${PACKAGE}/`)) return next(setting.self, context);
  const substitute = setting.substitutes[specifier];
  if (substitute) return orSubstitute(specifier, substitute, context, next);
  if (!context.parentURL?.startsWith(setting.checkout) || !/^(\.\.?\/|file:)/.test(specifier)) return next(specifier, context);
  const target = new URL(specifier, context.parentURL);
  if (SOURCES.some((folder) => target.href.startsWith(new URL(folder, setting.checkout).href))) return next(setting.self, context);
  return next(asTypeScript(target) ?? specifier, context);
}

/** What the checkout has installed wins. */
async function orSubstitute(specifier, substitute, context, next) {
  try {
    return await next(specifier, { ...context, parentURL: setting.checkout });
  } catch (error) {
    if (error.code !== 'ERR_MODULE_NOT_FOUND') throw error;
    return next(substitute, context);
  }
}

/** TypeScript's files import each other by the names that they have once they are compiled. */
function asTypeScript(target) {
  if (!/\.m?js$/.test(target.pathname) || existsSync(fileURLToPath(target))) return undefined;
  const source = new URL(target.href.replace(/\.(m?)js$/, '.$1ts'));
  return existsSync(fileURLToPath(source)) ? source.href : undefined;
}

export async function load(url, context, next) {
  if (!url.startsWith(setting.checkout) || !/\.m?ts$/.test(new URL(url).pathname)) return next(url, context);
  const fileName = fileURLToPath(url);
  const { outputText } = ts.transpileModule(await readFile(fileName, 'utf8'), { fileName, compilerOptions });
  return { format: 'module', source: outputText, shortCircuit: true };
}
