"""Small programming tasks: Python, shell, SQL, regular expressions, explanations."""

from dante.cache.prompts.pocket.family import Family, load_topics

TOPICS = load_topics("code")


FAMILIES = [
    Family(
        "python_function",
        "code",
        "en",
        [
            "Write a Python function that {}. Code only.",
            "Write a short Python function that {}, with one line that shows how to call it.",
            "How would you write a Python function that {}? Keep it under ten lines.",
            "Complete the task in Python: a function that {}. Add a docstring of one line.",
            "In Python, write a function with type hints that {}.",
            "Describe in two sentences how a function that {} could work. No code.",
            "Write two assert statements that test a Python function which {}.",
            "Suggest a good name and a docstring for a Python function that {}.",
            "I am learning Python. Show me the simplest function that {}.",
            "Write a JavaScript function that {}. Code only.",
            "Write a Python one-liner, or the shortest code you can, that {}.",
        ],
        TOPICS["python"],
        rounds=2,
    ),
    Family(
        "shell",
        "code",
        "en",
        [
            "Which Linux command do I use to {}?",
            "Give me a bash one-liner to {}.",
            "How can I {} in the terminal? Show the command and explain it in one sentence.",
            "Bash: {}. Answer with the command only.",
        ],
        TOPICS["shell"],
    ),
    Family(
        "sql",
        "code",
        "en",
        [
            "Write an SQL query that returns {}.",
            "Invent suitable table and column names and write an SQL query for {}. Query only.",
            "How do I find {} with SQL? Show the query and explain it in one sentence.",
        ],
        TOPICS["sql"],
    ),
    Family(
        "explain_code",
        "code",
        "en",
        [
            "What does this Python code do?\n```python\n{}\n```",
            "Explain this line to a beginner in one or two sentences: `{}`",
            "Describe the result of `{}` in Python.",
            "Write a short comment for this code:\n```python\n{}\n```",
        ],
        [s.replace("\\n", "\n") for s in TOPICS["snippets"]],
    ),
    Family(
        "fix_bug",
        "code",
        "en",
        [
            "Find the bug and fix it:\n```python\n{}\n```",
            "This Python code does not work as intended. Why? Answer briefly.\n```python\n{}\n```",
            "Correct this code and explain the change in one sentence.\n```python\n{}\n```",
        ],
        [s.replace("\\n", "\n") for s in TOPICS["bugs"]],
    ),
    Family(
        "code_concept",
        "code",
        "en",
        [
            "Explain {} to a new programmer in two sentences.",
            "What is the purpose of {} in computing?",
            "Give an everyday analogy for {}.",
            "Name one advantage and one pitfall of {}.",
        ],
        TOPICS["concepts"],
    ),
    Family(
        "regex",
        "code",
        "en",
        [
            "Write a regular expression that matches {}.",
            "Which regex finds {}? Explain its parts briefly.",
        ],
        TOPICS["patterns"],
    ),
    Family(
        "web",
        "code",
        "en",
        [
            "Show minimal HTML, CSS or JavaScript for {}.",
            "I am building a web page. How do I make {}? Short code, please.",
        ],
        TOPICS["web"],
    ),
]
