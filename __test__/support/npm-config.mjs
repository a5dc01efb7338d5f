// What the npm clients know about a registry and about who they are: one home folder per person.
import { join } from 'node:path';
import { write } from './packages.mjs';

/** A token that nobody has. */
export const wrongToken = '00000000-0000-4000-8000-000000000000';

/**
 * Makes the homes of `owner` (has a token of alice), `reader` (a read-only one), `liar` (a wrong one), `nobody` and `fresh` (none; `fresh` is for
 * logging in), and puts `site.as(person)`, the environment of that person, on the site.
 *
 * @param {object} site
 * @param {(registryUrl: string, token?: string) => Record<string, string>} configuration files of a home by name
 */
export async function people(site, configuration) {
  const tokens = {
    owner: site.token,
    reader: await site.registry.createToken('alice', 'npm', '--readonly'),
    liar: wrongToken,
    nobody: undefined,
    fresh: undefined,
  };
  const homeOf = (person) => join(site.box.home, person);
  for (const [person, token] of Object.entries(tokens)) await write(homeOf(person), configuration(site.registry.npm, token));
  site.as = (person) => ({ ...site.box.env, HOME: homeOf(person), XDG_CONFIG_HOME: join(homeOf(person), '.config') });
}

/** An .npmrc for `registryUrl` (which ends with a slash), with the token when one is given. */
export function npmrc(registryUrl, token, more = {}) {
  const lines = {
    registry: registryUrl,
    ...(token ? { [`${registryUrl.replace(/^http:/, '')}:_authToken`]: token } : {}),
    fund: false,
    'update-notifier': false,
    // A refusal shall be seen at once, not after the retries that a server error gets.
    'fetch-retries': 0,
    ...more,
  };
  return Object.entries(lines).map(([key, value]) => `${key}=${value}\n`).join('');
}
