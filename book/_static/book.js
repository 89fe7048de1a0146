// Paper is white: who reads in the dark prints as by day.
{
  const root = document.documentElement.dataset;
  let before;
  addEventListener("beforeprint", () => { before = root.theme; root.theme = "light"; });
  addEventListener("afterprint", () => { root.theme = before; });
}
