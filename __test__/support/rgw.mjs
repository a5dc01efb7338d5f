export async function startRgw() { throw new Error('not yet'); }
